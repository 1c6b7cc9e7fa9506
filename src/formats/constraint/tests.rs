//! What Masterminds/semver v3 says of constraints and versions, as a table: one constraint, the
//! versions it takes, and those it does not.

use super::*;

fn version(text: &str) -> Version {
    Version::parse(text).unwrap_or_else(|| panic!("{text} is a version"))
}

fn check(table: &[(&str, &str, &str)]) {
    let mut wrong = Vec::new();
    for (text, takes, refuses) in table {
        let constraint = Constraint::parse(text).unwrap_or_else(|error| panic!("{error}"));
        for (versions, expected) in [(takes, true), (refuses, false)] {
            for one in versions.split_whitespace() {
                if constraint.matches(&version(one)) != expected {
                    wrong.push(format!("`{text}` with {one}: should be {expected}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn single_comparators() {
    check(&[
        (
            "=2.0.0",
            "2.0.0 v2.0.0 2 2.0.0+build",
            "1.2.3 2.0.1 2.0.0-rc",
        ),
        ("=2.0", "2.0.0 2.0.1", "1.2.3 2.1.0"),
        ("4.1", "4.1.0 4.1.9", "4.2.0 4.0.9"),
        ("0.0.0", "0.0.0", "1.2.3 0.0.1"),
        ("!=4.1.0", "4.1.1 5.0.0-alpha", "4.1.0"),
        ("!=4.1", "5.1.0 4.2.0", "4.1.0 4.1.1 5.1.0-alpha.1"),
        ("!=4.x", "5.1.0", "4.1.0"),
        ("!=4.1.x", "4.2.0", "4.1.3"),
        ("!=4.1-alpha", "4.1.0", "4.1.0-alpha 4.1.1-alpha"),
        ("<11", "0.1.0 10.9.9", "11.0.0 11.1.0"),
        ("<1.1", "0.1.0 1.0.500", "1.1.0 1.1.1"),
        ("<1.x", "0.1.1", "1.1.1 2.0.0"),
        ("<1.1.x", "1.0.500", "1.2.1 1.1.500"),
        ("<=11", "1.2.3 11.2.3", "12.2.3"),
        ("<=1.1", "0.1.0 1.1.0 1.1.1", "1.2.3 0.1.0-alpha"),
        ("<=1.1-a", "0.1.0-alpha", "1.2.0"),
        ("<=1.1.x", "1.1.500", "1.2.500"),
        ("<=4.5", "3.4.0 3.7.0 4.5.9", "4.6.3"),
        (">1.1", "4.1.0 1.2.0", "1.1.0 1.1.9"),
        (">0", "1", "0 0.0.1-alpha 0.0.0-alpha"),
        (">0-0", "1.0.0", "0.0.1-alpha 0.0.0-alpha"),
        (">0.0.0-0", "0.0.0-alpha", "0.0.0-0"),
        (
            ">1.2.3-alpha.1",
            "1.2.3-alpha.2 1.3.3-alpha.2 1.2.3",
            "1.2.3-alpha.1",
        ),
        (">11", "12.0.0", "11.1.0"),
        (">11.1", "11.2.1 12.0.0", "11.1.0 11.1.1"),
        (">=11", "11.0.0 11.1.2", "10.9.9"),
        (">=11.1", "11.1.2", "11.0.2"),
        (">=0", "0 1.2.3", "0.0.1-alpha 0.0.0-alpha"),
        (">=0-0", "0.0.1-alpha 0.0.0-alpha 3.4.5-beta.1", ""),
        ("<0", "", "0.0.0-alpha 0"),
        ("<0-z", "0.0.0-alpha", "0"),
    ]);
}

#[test]
fn wildcards() {
    check(&[
        ("*", "1 4.5.6 0.0.0", "1.2.3-alpha.1"),
        ("x", "1 4.5.6", "1.2.3-alpha.1"),
        ("", "1 4.5.6", "1.2.3-alpha.1"),
        ("*-0", "1.2.3-alpha.1 1.2.3", ""),
        ("2.*", "2.1.1 2.0.0", "1 3.4.5"),
        ("2.1.*", "2.1.1", "2.2.1 2.0.9"),
        ("2.X", "2.1.1", "3.0.0"),
        ("0.x.x", "0.9.9", "1.2.3"),
        ("0.0.x", "0.0.7", "1.2.3 0.1.0"),
        ("~*", "2.1.1 0.0.0", "2.1.1-a"),
        ("^*", "2.1.1 0.0.0", "2.1.1-a"),
        (">=*", "0.0.0 9.9.9", "1.0.0-a"),
        ("<=*", "0.0.0 9.9.9", "1.0.0-a"),
        ("!=*", "", "1.0.0 0.0.0"),
    ]);
}

#[test]
fn tilde_and_caret() {
    check(&[
        ("~1.2.3", "1.2.3 1.2.4", "1.2.2 1.3.4 2.2.3"),
        ("~>1.2.3", "1.2.4", "1.3.4"),
        ("~1.2", "1.2.0 1.2.4", "1.3.4"),
        ("~1", "1.2.4 1.4", "2.3.4 1.3.5-beta"),
        ("~1.x", "1.3.5", "2.1.1"),
        ("~0.2.3", "0.2.5", "0.3.5"),
        ("~0.0.0", "1.2.3 0.0.0", ""),
        ("~0.0", "0.0.9", "0.1.0"),
        ("~1.1-alpha", "1.1.1-beta", "1.2.0"),
        ("~1.1.1-beta", "1.1.1", "1.1.1-alpha"),
        ("~1.2.3-beta.2", "1.2.3-beta.4 1.2.4-beta.2", "1.3.4-beta.2"),
        ("^1.2.3", "1.2.3 1.8.9", "2.8.9 1.2.1"),
        ("^1.2.0-alpha.0", "1.2.1-alpha.1 1.2.1-alpha.0", "1.1.9"),
        ("^1.2.0-alpha.2", "1.2.0-alpha.3", "1.2.0-alpha.1"),
        ("^1.2", "1.8.9", "2.8.9 1.2.1-alpha.1"),
        ("^1", "1.8.9", "2.8.9"),
        ("^0.2.3", "0.2.5", "0.5.6 0.2.2"),
        ("^0.2", "0.2.5", "0.5.6"),
        ("^0.0.3", "0.0.3", "0.0.4"),
        ("^0.0.0", "0.0.0", "1.2.3 0.0.1"),
        ("^0.0", "0.0.3", "0.1.4 1.0.4"),
        ("^0", "0.2.3", "1.1.4"),
        ("^0.2.3-beta.2", "0.2.3-beta.4 0.2.4-beta.2", "0.3.4-beta.2"),
        ("^1.2.x-alpha", "1.2.1-beta1", "1.1.1-beta1"),
    ]);
}

#[test]
fn several_comparators() {
    check(&[
        (">1.1, <2", "1.2.1", "1.1.1 2.0.0"),
        (">= 1.1    <2    != 1.2.3", "1.2.4 1.1.0", "1.2.3 2.0.0"),
        (
            ">=1.1, <2, !=1.2.3 || > 3",
            "4.1.2 1.5.0",
            "3.1.2 1.2.3 3.0.0",
        ),
        (">=1.1 <2 || >= 3", "3.0.0 1.1.0", "2.0.0"),
        ("1.1 - 2", "1.1.1 2.9.9", "3.0.0 1.0.9"),
        ("1.5.0 - 4.5", "3.7.0 4.5.9", "4.6.0"),
        ("2 - 3, 2.5 - 4", "2.5.0 3.9.9", "2.4.0 4.0.0"),
        // Without spaces that is a prerelease called 3.
        ("1.1-3", "", "4.3.2 1.2.0"),
        // One comparator that names a prerelease admits them for its group, not for others.
        (">=1.0.0-0 <2", "1.5.0-rc.1", "2.5.0-rc.1"),
        (">=1.0.0-0 <2 || >=3", "1.5.0-rc.1", "3.5.0-rc.1"),
        (
            "v2.3.5-20161202202307-sha.e8fc5e5",
            "2.3.5-20161202202307-sha.e8fc5e5",
            "2.3.5",
        ),
        ("12.3.34 ~12.3.4", "12.3.34", "12.3.35"),
    ]);
}

/// What the model's own tests say, where the tables above do not say it.
#[test]
fn as_the_model_has_it() {
    check(&[
        (">0.0", "0.1.0", "0.0.1-alpha 0.0.9"),
        (">0.0-0", "0.1.0", "0.0.1-alpha"),
        (">=0.0", "0.0.0", "0.0.1-alpha"),
        (">=0.0-0", "0.0.1-alpha", ""),
        (">=0.0.0-0", "0.0.0-alpha 1.2.3 3.4.5-beta.1", ""),
        ("=0", "0 0.9.9", "1"),
        ("2", "2.1.1", "1 3.4.5"),
        ("2.1", "2.1.1", "2.2.1"),
        ("1.x", "1.4 1.0.0", "2.0.0"),
        ("4.1.x", "4.1.3", "4.2.0"),
        ("!=4.2.x", "4.1.9", "4.2.3"),
        ("<1.2.x", "1.1.1", "1.2.0"),
        ("<2.x", "1.1.1", "2.0.0"),
        (">=1.1", "4.1.0 1.1.0", "0.0.9 4.1.0-beta"),
        ("<=1.x", "1.1.0 1.99.0", "2.0.0"),
        ("<=2.x", "2.9.9", "3.0.0 3.1.0"),
        ("^1.1.0", "1.1.0", "2.1.0"),
        ("^1.2.0", "1.2.0", "2.2.1 1.2.1-alpha.1"),
        ("^1.1", "1.1.1", "4.3.2 1.1.1-alpha"),
        ("^1.12.7", "1.12.7", "1.6.6"),
        ("^1.x", "1.1.1", "2.1.1 1.1.1-beta1"),
        ("^2.x", "2.0.0", "1.1.1"),
        ("^1.1.2-alpha", "1.2.1-beta1 1.1.2", "1.1.1"),
        ("^1.1.1-alpha", "1.1.1-beta", "2.0.0-beta"),
        ("^1.1.1-beta", "1.1.1", "1.1.1-alpha"),
        ("^0.0.1", "0.0.1", "0.3.1 0.1.3 0.0.2"),
        ("^0.2.3-beta.2", "0.2.3-beta.2 0.2.3", "0.2.3-beta.1"),
        ("~1.1", "1.1.1", "1.1.1-alpha 1.2.3"),
        ("~1.3", "1.3.9", "2.4.5"),
        ("~1.3.6-alpha", "1.3.6-alpha", "1.3.5-beta"),
        ("~1.3.5-alpha", "1.3.5-beta", "1.4.0"),
        ("~1.3.5-beta", "1.3.5", "1.3.5-alpha"),
        ("> 1.1, <     2", "1.2.1", "1.1.1"),
        (">   1.1, <2", "1.2.1", "1.1.1"),
        ("> 1.1 < 2", "1.2.1", "1.1.1 2.0.0"),
        ("> 1.1    <3", "2.9.9", "4.3.2"),
        (">= 1.1, <2, != 1.2.3 || >= 3", "3.0.0 1.2.4", "1.2.3 2.0.0"),
        (">= 1.1 <2 != 1.2.3 || > 3", "4.1.2", "3.1.2 1.2.3"),
        ("1.0.0 - 2.0.0 <=2.0.0", "1.5.0 2.0.0", "2.0.1"),
        ("1.0.0 - 2.0.0, <=2.0.0", "1.5.0", "0.9.9"),
        ("2 - 3 4.0.0 - 5.1", "", "2.5.0 4.5.0"),
        ("!= 1.2.5, ^2, <= 1.1.x", "", "1.2.3 2.0.0"),
        (">40.50.60, < 50.70", "45.0.0 50.69.9", "40.50.60 50.70.0"),
        (
            "2.x,   >=1.2.3 || >4.5.6, < 5.7",
            "2.5.0 5.0.0",
            "3.0.0 4.5.6 5.7.0",
        ),
        ("3 - 4 || => 3.0, < 4", "3.0.0 4.9.9", "5.0.0 2.9.9"),
        (
            ">= 1.2.3 < 2.0 || => 3.0 < 4",
            "1.2.3 3.5.0",
            "2.0.0 4.0.0 1.2.2",
        ),
    ]);
}

/// What the model's manual says is the same: asked of every version of a grid, with prereleases.
#[test]
fn two_ways_to_say_the_same() {
    let mut grid = Vec::new();
    for major in 0..5 {
        for minor in 0..6 {
            for patch in 0..6 {
                for rest in ["", "-0", "-rc.1", "+build.5"] {
                    grid.push(version(&format!("{major}.{minor}.{patch}{rest}")));
                }
            }
        }
    }
    let mut wrong = Vec::new();
    for (one, other) in [
        ("1.2 - 1.4.5", ">= 1.2 <= 1.4.5"),
        ("2.3.4 - 4.5", ">= 2.3.4 <= 4.5"),
        ("1.2.x", ">= 1.2.0, < 1.3.0"),
        (">= 1.2.x", ">= 1.2.0"),
        ("<= 2.x", "< 3"),
        ("*", ">= 0.0.0"),
        ("~1.2.3", ">= 1.2.3, < 1.3.0"),
        ("~1", ">= 1, < 2"),
        ("~2.3", ">= 2.3, < 2.4"),
        ("~1.2.x", ">= 1.2.0, < 1.3.0"),
        ("~1.x", ">= 1, < 2"),
        ("^1.2.3", ">= 1.2.3, < 2.0.0"),
        ("^1.2.x", ">= 1.2.0, < 2.0.0"),
        ("^2.3", ">= 2.3, < 3"),
        ("^2.x", ">= 2.0.0, < 3"),
        ("^0.2.3", ">=0.2.3 <0.3.0"),
        ("^0.2", ">=0.2.0 <0.3.0"),
        ("^0.0.3", ">=0.0.3 <0.0.4"),
        ("^0.0", ">=0.0.0 <0.1.0"),
        ("^0", ">=0.0.0 <1.0.0"),
        ("~0.2.3", ">=0.2.3 <0.3.0"),
        (">1.1", ">=1.2.0"),
        (">1", ">=2.0.0"),
        ("<=1.1", "<1.2.0"),
        ("!=1.1", "<1.1.0 || >=1.2.0"),
        ("!=1.x", "<1.0.0 || >=2.0.0"),
        ("=1.1", ">=1.1.0 <1.2.0"),
        ("v1.2.3", "=1.2.3"),
        ("~>1.2.3", "~1.2.3"),
        ("=>1.2.3 =<2.0.0", ">=1.2.3 <=2.0.0"),
        ("1.x || 3.x", "3.* || 1.X"),
    ] {
        let (a, b) = (Constraint::parse(one), Constraint::parse(other));
        let (a, b) = (a.expect(one), b.expect(other));
        for version in &grid {
            if a.matches(version) != b.matches(version) {
                wrong.push(format!("`{one}` and `{other}` with {version}"));
            }
        }
        assert!(grid.iter().any(|it| a.matches(it)), "{one} takes nothing");
        assert!(
            grid.iter().any(|it| !a.matches(it)),
            "{one} takes everything"
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_example_satisfies() {
    for (text, example) in [
        ("*", Some("0.0.0")),
        ("^1.4", Some("1.4.0")),
        (">1.4", Some("1.5.0")),
        (">=2.0.0-0 <3", Some("2.0.0-0")),
        (">1.2.3", Some("1.2.4")),
        ("!=0.0.0", Some("0.0.1")),
        ("1.5 - 2 || 7.x", Some("1.5.0")),
        ("<0", None),
    ] {
        let found = Constraint::parse(text).expect(text).example();
        assert_eq!(
            found.map(|version| version.to_string()).as_deref(),
            example,
            "{text}"
        );
    }
}

#[test]
fn what_is_no_constraint() {
    for (text, expected) in [
        (
            "foo",
            "`foo` is not a version constraint: write a version such as 1, 1.2, 1.2.x or 1.2.3-rc.1",
        ),
        (
            ">= bar",
            "`>= bar` is not a version constraint: write a version such as 1, 1.2, 1.2.x or 1.2.3-rc.1",
        ),
        (
            "BAR >= 1.2.3",
            "`BAR` is not a version constraint: write a version such as 1, 1.2, 1.2.x or 1.2.3-rc.1",
        ),
        (
            "12.3.4.1234",
            "`12.3.4.1234` is not a version constraint: write a version such as 1, 1.2, 1.2.x or 1.2.3-rc.1",
        ),
        (
            "12.3.34~ 1.2.3",
            "`12.3.34~` is not a version constraint: write a version such as 1, 1.2, 1.2.x or 1.2.3-rc.1",
        ),
        (
            ">=",
            "`>=` is not a version constraint: a version is missing after the operator",
        ),
        (
            "1.2 -",
            "`1.2` is not a version constraint: the range has no end",
        ),
        (
            ">1.2 - 1.4",
            "`>1.2` is not a version constraint: a range takes no operator",
        ),
        (
            ">1,",
            "`,` is not a version constraint: nothing stands beside the comma",
        ),
        (
            "1.a",
            "`1.a` is not a version constraint: write a version such as 1, 1.2, 1.2.x or 1.2.3-rc.1",
        ),
        (
            "1.2.3-",
            "`1.2.3-` is not a version constraint: write a version such as 1, 1.2, 1.2.x or 1.2.3-rc.1",
        ),
    ] {
        let error = Constraint::parse(text).expect_err(text);
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn versions_are_ordered_as_semver_says() {
    let order = [
        "1.0.0-1",
        "1.0.0-2",
        "1.0.0-103",
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
        "1.0.1",
        "1.2",
        "1.10.0",
        "2",
    ];
    for (at, one) in order.iter().enumerate() {
        for (other_at, other) in order.iter().enumerate() {
            assert_eq!(
                version(one).cmp(&version(other)),
                at.cmp(&other_at),
                "{one} and {other}"
            );
        }
    }
    assert_eq!(version("1.0.0+a"), version("v1.0.0+b"));
}

#[test]
fn what_is_no_version() {
    for text in [
        "",
        "v",
        "latest",
        "1.2.3.4",
        "1..2",
        "1.2.3-",
        "1.2.3+",
        "1.2.3-a..b",
        "1.2.x",
        "-1",
        "V1",
        "1.2.3-ü",
        "99999999999999999999",
    ] {
        assert!(Version::parse(text).is_none(), "{text}");
    }
    assert!(!version("20260131").has_three_parts());
    assert!(version("v1.2.3-rc.1+5").has_three_parts());
}
