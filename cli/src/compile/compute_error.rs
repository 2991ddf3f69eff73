//! What rounding activations to bf16 costs: the largest error of a product, over its largest result.
//!
//! The product is a graph as models have it, of as many terms as the model is wide, on seeded numbers; the interpreter runs
//! it once as written and once without rounding anything.

use bloomery_ir::{DType, Interpreter, Precision, Tensor, parse};

use super::random::normal;

/// Rows and columns of the product.
const SIZE: usize = 32;

/// The error of products of `terms` terms.
pub(super) fn of_bf16(terms: usize) -> f64 {
    let text = format!(
        "graph @product(%x: f32[{SIZE}, {terms}], %w: bf16[{terms}, {SIZE}]) {{
          %0 = cast %x {{to = \"bf16\"}} : bf16[{SIZE}, {terms}]
          %1 = cast %0 {{to = \"f32\"}} : f32[{SIZE}, {terms}]
          %2 = matmul %1, %w : f32[{SIZE}, {SIZE}]
          return %2
        }}"
    );
    let module = parse(&text).expect("it is a graph");
    let tensor = |stream: u64, dtype: DType, shape: [usize; 2]| {
        let values = (0..(shape[0] * shape[1]) as u64).map(|i| f64::from(normal(stream, i)));
        Tensor::new(dtype, &shape, values)
    };
    let inputs = [tensor(1, DType::F32, [SIZE, terms]), tensor(2, DType::BF16, [terms, SIZE])];
    let run = |precision| Interpreter::new(&module, precision).run("product", &inputs).expect("it runs").remove(0);
    let (rounded, exact) = (run(Precision::Typed), run(Precision::Double));
    let largest = exact.data.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    let error = rounded.data.iter().zip(&exact.data).fold(0.0, |most: f64, (a, b)| most.max((a - b).abs()));
    error / largest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half a unit in the last of eight digits, 2^-9, for each term; in a sum most of that cancels.
    #[test]
    fn rounding_costs_some_thousandths() {
        let error = of_bf16(256);
        assert!((1e-4..4e-3).contains(&error), "{error}");
        assert_eq!(error, of_bf16(256));
    }
}
