//! Names of functions as their authors wrote them.

/// Names of templates run away: a line of a log is for reading.
const CHARACTERS_MAX: usize = 160;

/// Returns the name of a Rust or C++ function in clear, without Rust's hash; others as they are.
#[must_use]
pub fn demangle(name: &str) -> String {
    let clear = match rustc_demangle::try_demangle(name) {
        Ok(clear) => format!("{clear:#}"),
        Err(_) if name.starts_with("_Z") => cpp(name).unwrap_or_else(|| name.to_owned()),
        Err(_) => name.to_owned(),
    };
    match clear.char_indices().nth(CHARACTERS_MAX) {
        Some((at, _)) => format!("{}...", &clear[..at]),
        None => clear,
    }
}

fn cpp(name: &str) -> Option<String> {
    let options = cpp_demangle::ParseOptions::default().recursion_limit(64);
    let symbol = cpp_demangle::Symbol::new_with_options(name, &options).ok()?;
    symbol.demangle().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_and_cpp_are_shown_in_clear() {
        for (mangled, clear) in [
            ("_ZN4core9panicking5panic17h0123456789abcdefE", "core::panicking::panic"),
            ("_RNvCskwGfYPst2Cb_3foo3bar", "foo::bar"),
            ("_ZN3Foo3barEi", "Foo::bar(int)"),
            ("main", "main"),
            ("_Zgarbage", "_Zgarbage"),
        ] {
            assert_eq!(demangle(mangled), clear);
        }
        assert_eq!(demangle(&"x".repeat(500)).len(), CHARACTERS_MAX + 3);
    }
}
