//! What holds for edits of any text.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_text_makes_an_edit_panic(
        text in "[-a: \\[\\]{},&*!|>'\"%#?=FROM@/.\\\\\r\n\t値01]{0,80}",
        value in any::<String>(),
        create in any::<bool>(),
    ) {
        let image = Image { name: "a".to_owned(), tag: "1".to_owned(), digest: None };
        let edits = [
            set(".a", &value, false, create),
            set("[0].a", "1", true, create),
            Edit::Image { image: image.clone(), place: Place::Everywhere },
            Edit::Image { image: image.clone(), place: Place::At(".a".to_owned()) },
            Edit::Kustomize { image, name: None, alias: "a".to_owned(), create },
            Edit::Match { pattern: "a(.)".to_owned(), value: value.clone() },
            Edit::Marker { name: "a".to_owned(), value },
        ];
        for name in Format::NAMES {
            let format = Format::named(name).expect("a name of a format");
            for edit in &edits {
                if let Ok((after, changes)) = edit.apply(format, &text) {
                    prop_assert_eq!(changes.is_empty(), after == text);
                }
            }
        }
    }
}
