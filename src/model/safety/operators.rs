//! The names of libtorch's operators: those that a file may call, and all others.

use std::collections::HashSet;
use std::sync::LazyLock;

/// The operators that a file may call.
pub static ALLOWED: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    let mut names = HashSet::new();
    for word in words(include_str!("operators.txt")) {
        match word.strip_suffix('*') {
            Some(name) => names.extend([name, &*Box::leak(format!("{name}_").into_boxed_str())]),
            None => _ = names.insert(word),
        }
    }
    names
});

/// All other operators of libtorch: a file must not even give its own methods such a name, by which a call could be
/// hidden.
pub static OTHERS: LazyLock<HashSet<&str>> = LazyLock::new(|| words(include_str!("other_operators.txt")).collect());

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_have_nothing_in_common_and_nothing_that_reaches_out() {
        assert!(ALLOWED.len() > 700 && OTHERS.len() > 1000, "{} {}", ALLOWED.len(), OTHERS.len());
        assert_eq!(ALLOWED.intersection(&OTHERS).collect::<Vec<_>>(), [] as [&&str; 0]);
        for name in
            ["save", "from_file", "set_", "resize_", "_reinterpret_tensor", "set_data", "print", "Print", "load"]
        {
            assert!(!ALLOWED.contains(name), "{name}");
        }
        assert!(ALLOWED.contains("add") && ALLOWED.contains("add_") && ALLOWED.contains("conv2d"));
    }
}
