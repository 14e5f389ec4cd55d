//! What a program printed, held against what it printed with Apache Kafka: in the text files beside the tests
//! (`COMPAT_BROKER=kafka COMPAT_UPDATE=1` writes them anew).

use std::fs;
use std::path::Path;

/// Shows the first part that differs, from one command to the next.
pub fn compare(printed: &str, file: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file);
    if std::env::var_os("COMPAT_UPDATE").is_some() {
        fs::write(&file, printed).unwrap();
    }
    let expected = &fs::read_to_string(&file).unwrap();
    let parts = |text: &str| text.split("\n> ").map(str::to_owned).collect::<Vec<_>>();
    let different = parts(printed).into_iter().zip(parts(expected)).find(|(printed, expected)| printed != expected);
    if let Some((printed, expected)) = different {
        panic!("printed:\n{printed}\n\nexpected:\n{expected}");
    }
    assert_eq!(printed.lines().count(), expected.lines().count(), "all there is:\n{printed}");
}
