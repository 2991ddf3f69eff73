//! The machine code image: mapped anywhere, importing nothing, the same bytes each time.
use bloomery_codegen::cpu::cc::Compiler;
use bloomery_codegen::cpu::image::image;
use bloomery_codegen::cpu::spec::{Binary, Count, Element, GemmSpec, Matrix, Rows, Spec, Step, Store, Stored};
use bloomery_codegen::cpu::{Class, emit};

#[test]
fn an_image_is_reproducible_and_without_relocations() {
    let mut store = Store::new();
    let value = store.step(Step::Value);
    let gate = store.gelu(value);
    let twice = store.binary(Binary::Add, gate, value);
    let spec = GemmSpec {
        count: Count::of(0),
        rows: Rows::Many { max: 8 },
        k: 64,
        n: 64,
        x: Matrix::whole(0, 64),
        w: Stored { view: 1, element: Element::Bf16 },
        norm: None,
        store: store.to(twice, Matrix::whole(2, 64)),
    };
    let kernels = [emit("up", &Spec::Gemm(spec))];
    for class in [Class::V3, Class::Plain] {
        if class == Class::V3 && !cfg!(target_arch = "x86_64") {
            continue;
        }
        let first = image(&Compiler::find(), class, &kernels).expect("it compiles");
        assert_eq!(first, image(&Compiler::find(), class, &kernels).expect("it compiles again"));
        assert_eq!(first.symbols.keys().collect::<Vec<_>>(), ["up", "up_prepare"]);
        assert!(first.symbols.values().all(|offset| (*offset as usize) < first.bytes.len()));
    }
}

#[test]
fn a_missing_compiler_says_what_to_do() {
    let error = image(&Compiler::named("no-such-compiler"), Class::V3, &[]).expect_err("there is none");
    let text = error.to_string();
    assert!(text.contains("install one") && text.contains("--target interpreter"), "{text}");
}
