//! Prototypes of aclnn calls, from the table in `artifact`: in C, for what is compiled without CANN.
//!
//! Linking knows names alone, so what counts is the order and the width of parameters. Constness is ours: what a call reads is
//! `const`, which the vendor's own headers do not always say. Plans declare the calls they make themselves ([`prototype`]);
//! `include/aclnnop/aclnnop.h` declares all of the table ([`aclnn_header`]), and a test keeps it so.

use bloomery_artifact::plan::aclnn::{Function, Parameter, functions};

/// Columns that lines fill.
const WIDTH: usize = 120;

/// `include/aclnnop/aclnnop.h`
pub fn aclnn_header() -> String {
    let prototypes: Vec<String> = functions().iter().map(prototype).collect();
    format!(
        "/* The aclnn calls that plans may make, in two phases: what is needed, then what is done. Written by\n \
         * `bloomery_codegen::ascend::header` from the table of calls; our own words for published facts. */\n\
         #ifndef BLOOMERY_ACLNNOP_H\n#define BLOOMERY_ACLNNOP_H\n\n#include \"aclnn/acl_meta.h\"\n\n\
         #ifdef __cplusplus\nextern \"C\" {{\n#endif\n\n{}\n#ifdef __cplusplus\n}}\n#endif\n#endif\n",
        prototypes.join("\n")
    )
}

/// Both phases of a call.
pub fn prototype(function: &Function) -> String {
    let parameters = function.parameters.iter().map(declaration);
    let first = parameters.chain(["uint64_t *workspaceSize".to_owned(), "aclOpExecutor **executor".to_owned()]);
    let second = ["void *workspace", "uint64_t workspaceSize", "aclOpExecutor *executor", "aclrtStream stream"];
    declared(&format!("{}GetWorkspaceSize", function.name), first) + &declared(function.name, second.map(str::to_owned))
}

/// One declaration, its parameters in lines that are filled.
fn declared(name: &str, parameters: impl IntoIterator<Item = String>) -> String {
    let parameters: Vec<String> = parameters.into_iter().collect();
    let (mut text, mut line) = (String::new(), format!("aclnnStatus {name}("));
    for (i, parameter) in parameters.iter().enumerate() {
        let piece = format!("{parameter}{}", if i + 1 < parameters.len() { ", " } else { ");" });
        if line.len() + piece.len() > WIDTH {
            text += &format!("{}\n", line.trim_end());
            line = " ".repeat(8);
        }
        line += &piece;
    }
    format!("{text}{line}\n")
}

/// `const aclTensor *self`
fn declaration(parameter: &Parameter) -> String {
    let constant = if parameter.is_output() || parameter.is_both() { "" } else { "const " };
    let c_type = match parameter.c_type {
        "T" => format!("{constant}aclTensor *"),
        "L" => format!("{constant}aclTensorList *"),
        "S" => "const aclScalar *".to_owned(),
        "I" => "const aclIntArray *".to_owned(),
        "B" => "const aclBoolArray *".to_owned(),
        "char*" => "const char *".to_owned(),
        plain => format!("{plain} "),
    };
    format!("{c_type}{}", parameter.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bloomery_artifact::plan::aclnn::function;

    #[test]
    fn a_call_has_two_phases() {
        let text =
            "aclnnStatus aclnnGeluGetWorkspaceSize(const aclTensor *self, aclTensor *out, uint64_t *workspaceSize,\n";
        assert!(prototype(function("aclnnGelu").unwrap()).starts_with(text));
        assert!(prototype(function("aclnnMm").unwrap()).contains(", int8_t cubeMathType,"));
    }

    /// With `BLESS` in the environment the file is written instead.
    #[test]
    fn the_header_is_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ascend/include/aclnnop/aclnnop.h");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, aclnn_header()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), aclnn_header(), "run this test with BLESS=1 and commit");
    }
}
