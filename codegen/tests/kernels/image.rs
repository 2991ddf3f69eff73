//! The machine code image of every class: mapped anywhere, importing nothing, the same bytes each time, and run.
use crate::classes::{PLAIN, ways};
use crate::data::{bytes, panels, random};
use bloomery_codegen::cpu::cc::Compiler;
use bloomery_codegen::cpu::hosted::Launch;
use bloomery_codegen::cpu::image::{ImageError, image};
use bloomery_codegen::cpu::spec::{
    Binary, Count, Element, GemmSpec, Matrix, RowFunction, RowSpec, Rows, Spec, Step, Store, Stored,
};
use bloomery_codegen::cpu::{CLASSES, Class, Kernel, emit};
use std::io::Write;

const SIZE: usize = 64;

fn product(max: usize, element: Element, store: Store) -> GemmSpec {
    GemmSpec {
        count: Count::of(0),
        rows: Rows::Many { max },
        k: SIZE,
        n: SIZE,
        x: Matrix::whole(0, SIZE),
        w: Stored { view: 1, element },
        norm: None,
        rounded: false,
        store,
    }
}

/// A product with an end of its own and a softmax: constants, tables and calls between functions are in both.
fn kernels(class: Class) -> [Kernel; 2] {
    let mut store = Store::new();
    let value = store.step(Step::Value);
    let gate = store.gelu(value);
    let twice = store.binary(Binary::Add, gate, value);
    let product = product(8, Element::F16, store.to(twice, Matrix::whole(2, SIZE)));
    let (x, out) = (Matrix::whole(0, SIZE), Matrix::whole(1, SIZE));
    let softmax = RowSpec { count: Count::of(0), width: SIZE, function: RowFunction::Softmax, x, out };
    [emit(class, "up", &Spec::Gemm(product)), emit(class, "softmax", &Spec::Row(softmax))]
}

fn launches() -> [Launch; 2] {
    let (x, w, out) = (random(1, 5 * SIZE), random(2, SIZE * SIZE), vec![0; 5 * SIZE * 4]);
    let views = vec![bytes(&x), panels(Element::F16, &w, SIZE, SIZE), out.clone()];
    let launch = |kernel, views| Launch { kernel, views, dims: vec![5], tiles_at_once: 1 };
    [launch(0, views), launch(1, vec![bytes(&x), out])]
}

#[test]
fn images_are_reproducible_and_without_relocations() {
    for class in CLASSES.iter().chain([&Class::Plain]) {
        let make = || image(&Compiler::for_class(*class), *class, &kernels(*class));
        let first = match make() {
            Err(ImageError::Compiler(error)) if *class != Class::Plain => {
                // What runs here must compile here; another machine's compiler may be missing.
                assert!(!ways().any(|way| way.class == *class && way.own_code), "{error}");
                continue;
            }
            first => first.expect("it compiles"),
        };
        assert_eq!(first, make().expect("it compiles again"));
        assert_eq!(first.symbols.keys().collect::<Vec<_>>(), ["softmax", "up", "up_prepare"]);
        assert!(first.symbols.values().all(|offset| (*offset as usize) < first.bytes.len()));
    }
}

#[test]
fn images_run_at_the_start_of_any_page() {
    let launches = launches();
    let expected = PLAIN.build(&kernels(PLAIN.class)).run(&launches).expect("plain C runs");
    for way in ways().filter(|way| way.own_code) {
        let found = way
            .build_of_image(&kernels(way.class))
            .run(&launches)
            .unwrap_or_else(|error| panic!("{}: {error}", way.name));
        assert!(found == expected, "{}: the image and plain C differ", way.name);
    }
}

/// The one class that no portable intrinsics stand in for: that its instructions are there, and tiles are given back.
#[test]
fn the_image_for_amx_holds_the_instructions_of_tiles() {
    let mut store = Store::new();
    let value = store.step(Step::Value);
    let product = product(64, Element::Bf16, store.to(value, Matrix::whole(2, SIZE)));
    let kernels = [emit(Class::Amx, "up", &Spec::Gemm(product))];
    let image = match image(&Compiler::for_class(Class::Amx), Class::Amx, &kernels) {
        Ok(image) => image,
        Err(error) => {
            writeln!(std::io::stderr(), "no image for x86-64-amx was looked at: {error}").expect("stderr is open");
            return;
        }
    };
    // VEX.128.0F38.W0: three bytes of which the second and third hold registers and the prefix (their last bits), then the
    // operation and what it is done with.
    let count = |prefix: u8, operation: u8, with: fn(u8) -> bool| {
        let vex = |code: &[u8]| code[0] == 0xc4 && code[1] & 31 == 2 && code[2] & 0x87 == prefix;
        image.bytes.windows(5).filter(|code| vex(code) && code[3] == operation && with(code[4])).count()
    };
    let memory = |with: u8| with >> 6 != 3;
    assert!(count(0, 0x49, memory) > 0, "ldtilecfg");
    assert!(count(3, 0x4b, memory) > 0, "tileloadd");
    assert!(count(2, 0x4b, memory) > 0, "tilestored");
    assert!(count(2, 0x5c, |with| with >> 6 == 3) > 0, "tdpbf16ps");
    assert!(count(0, 0x49, |with| with == 0xc0) > 0, "tilerelease");
}

#[test]
fn a_missing_compiler_says_what_to_do() {
    let error = image(&Compiler::named("no-such-compiler"), Class::V3, &[]).expect_err("there is none");
    let text = error.to_string();
    assert!(text.contains("install one") && text.contains("--target interpreter"), "{text}");
}
