//! Each order against what its own ecosystem publishes, and against the laws of an order.

use std::cmp::Ordering;

use proptest::prelude::*;

use super::Scheme;

/// Chains of versions, `a < b = c < d`, one for each line.
fn check(scheme: Scheme, chains: &str) {
    for line in chains
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        let versions: Vec<&str> = words.iter().step_by(2).copied().collect();
        let mut places = vec![0];
        for sign in words.iter().skip(1).step_by(2) {
            let last = *places.last().expect("a place");
            places.push(match *sign {
                "<" => last + 1,
                "=" => last,
                other => panic!("{line}: {other}"),
            });
        }
        for (a, at_a) in versions.iter().zip(&places) {
            for (b, at_b) in versions.iter().zip(&places) {
                assert_eq!(scheme.compare(a, b), at_a.cmp(at_b), "{a} against {b}");
            }
        }
    }
}

/// Debian's policy, dpkg's own tests, and versions of its archive.
#[test]
fn deb() {
    check(
        Scheme::Deb,
        "1~~ < 1~~a < 1~ < 1 < 1a
         1.0~beta1~svn1245 < 1.0~beta1 < 1.0
         0:0 = 0 = 00-0 = 0-00 = 0-
         0:0-0 < 1:0-0 < 2:0-0
         0:1-1 < 0:2-1 < 0:2-2
         0:a-0 < 0:b-0
         0:0-a < 0:0-b
         0-0-0 < 0-0-1 < 0-1-0
         0:0:0-0 < 0:0:1-0
         1.2.3 < 1.2.3-1 < 1.2.3-1+b1 < 1.2.3-1.1 < 1.2.3-2 < 1.2.3-10
         1.2.3~rc1-1 < 1.2.3-1~bpo12+1 < 1.2.3-1
         3.0.11-1~deb12u1 < 3.0.11-1~deb12u2 < 3.0.13-1~deb12u1
         2.36-9 < 2.36-9+deb12u1 < 2.36-9+deb12u10
         1:1.2.13.dfsg-1 < 1:1.2.13.dfsg-1+b1 < 1:1.3.dfsg-3
         9.9 < 1:0.1
         1.1.1f-1ubuntu2 < 1.1.1f-1ubuntu2.16 < 1.1.1f-1ubuntu2.19
         2.7.4-1 < 2.7.4+reloaded2 < 2.7.4+reloaded2-13ubuntu1
         1.18.36:5.4 < 1.18.36:5.5 < 1.18.37:1.1
         7.6-0 < 7.6p2-4
         1.0-1 < 1.0.3-3
         1.2.2.2-2 < 1.3
         5.005 < 5.10.0
         3a9.8 < 3.10.2
         3~10 < 3a9.8
         1.4+OOo3.0.0~ < 1.4+OOo3.0.0-4
         20100101000000000000000000 < 20100101000000000000000001",
    );
    for version in ["1.0-1", "0:09azAZ.-+~:-0", " 0:0-1\t"] {
        assert!(Scheme::Deb.reads(version), "{version}");
    }
    for nonsense in ["", "  ", "0:", "0:0 0-1", "-0", "a:0-0"] {
        assert!(!Scheme::Deb.reads(nonsense), "{nonsense}");
    }
}

/// What apk-tools tests itself with.
#[test]
fn apk() {
    check(
        Scheme::Apk,
        "0.1.0_alpha_pre2 < 0.1.0_alpha < 0.1.0_alpha2 < 0.1.3_alpha < 2.2.39-r1 < 2.34
         4_beta < 23_foo
         1.0 < 1.0bc
         1.0.2 < 1.0.4-r3 < 1.0.4-r4 < 1.1_alpha1 < 1.1 < 1.2 < 1.2.1 < 1.6
         1.3_alpha < 1.3_alpha2 < 1.3_alpha3 < 1.3_alpha8
         0.6.0 < 0.6.1 < 0.7-r1 < 0.7.0 < 0.8_beta1 < 0.8_beta2 < 0.8_beta4 < 4.8-r1
         2.3.0b-r1 < 2.3.0b-r2 < 2.3.0b-r3 < 2.3.0b-r4 < 3.10.18-r1
         0.12 < 0.12.1 < 0.12.3 < 0.13_beta1 < 0.13_beta5
         3.1_p16 < 3.1_p17
         1.0.0 < 1.06-r6 < 006
         9.3.2-r4 < 9.3.4 < 9.3.4-r2
         0.99.3.20040818 < 1.0 < 2.01.01_alpha10 < 2.59 < 20050718-r1 < 20050718-r2
         1.00_beta2 < 1.02 < 1.03-r1 < 1.39 < 4.2.52_p2-r1 < 4.2.52_p4-r2
         1.02.07 < 1.02.10-r1
         2.5.1-r8 < 2.5.1a-r1
         3.0.20060720 < 20060720
         2.0.0_rc3-r1 < 2.0.0
         0.9.8c-r1 < 0.9.8d
         1.3.5-r8 < 1.3.5-r9 < 1.3.5-r10
         0.59s-r11 < 0.65
         0.20070118 < 0.20070207_rc1 < 1.0
         3.7 < 3.7_p1 < 4.3_p2-r1 < 4.3_p2-r5 < 4.4_p1-r6 < 4.5_p1 < 4.5_p1-r1
         013 < 014-r1
         1.8.5 < 1.8.5_p2
         0.98 < 1.00
         2.9.11_pre20051101 < 2.9.11_pre20051101-r2 < 2.9.11_pre20061021-r1
         2.6.1.2 < 2.6.1.3 < 2.6.1.3-r1 < 12.17.9
         1.6.8_p9-r2 < 1.6.8_p12-r1
         0.9.28 < 0.9.28-r1 < 0.9.28-r2 < 0.9.28.1 < 087-r1 < 103
         7.0.17 < 7.0.174
         1.3-r0 < 1.3.1-r0
         1.3_pre1-r1 < 1.3.2
         1.0_p9-r0 < 1.0_p10-r0
         1.0.0_pre20191002222144-r0 < 1.0.0_pre20210530193627-r0
         6.0_pre1 < 6.0 < 6.0_p1 < 6.1_pre1 < 6.1 < 6.1_p1
         1.0 < 1.0-r0 < 1.0~0a1b < 1.0~0a1c < 1.0_git20200101
         1.1.1q-r0 < 1.1.1t-r0 < 3.0.8-r0
         1.2.12-r0 < 1.2.12-r1 < 1.2.12-r2",
    );
    assert!(Scheme::Apk.reads("1.2.3a_rc1_p2~0a1b-r4"));
    for nonsense in ["", "1.0bc", "23_foo", "r1", "1.0-1", "1..0", "1.0~"] {
        assert!(!Scheme::Apk.reads(nonsense), "{nonsense}");
    }
}

/// What rpm tests itself with, and whole versions with epoch and release.
#[test]
fn rpm() {
    check(
        Scheme::Rpm,
        "1.0 < 2.0 < 2.0.1 < 2.0.1a
         5.5p1 < 5.5p2 < 5.5p10 < 5.6p1 < 6.5p1
         10xyz < 10.1xyz
         xyz10 < xyz10.1
         xyz.4 < 2 < 8
         6.0 < 6.0.rc1
         10a1 < 10a2 < 10b2
         1.0a < 1.0aa
         10.0001 = 10.1 < 10.0039
         4.999.9 < 5.0
         20101121 < 20101122
         2_0 = 2.0
         a = a+ = a_ = +a = _a
         + = _ = +_ = _+
         1.0~rc1~git123 < 1.0~rc1 < 1.0~rc2 < 1.0
         1.0 < 1.0^ < 1.0^git1 < 1.0^git2 < 1.01
         1.0^20160101 < 1.0^20160101^git1 < 1.0^20160102 < 1.0.1
         1.0~rc1 < 1.0~rc1^git1
         1.0^git1~pre < 1.0^git1
         1.1.α = 1.1.β = 1.1.ββ
         1b.fc17 < 1.fc17
         1.fc17 < 1g.fc17
         0:1.0-1 = 1.0-1 < 1:0.5-1 < 2:0.1-1
         1:3.0.7-16.el9_2 < 1:3.0.7-17.el9_2 < 1:3.0.7-24.el9 < 1:3.0.7-25.el9_3
         2.34-60.el9 < 2.34-60.el9_2.7 < 2.34-100.el9",
    );
    for nonsense in ["", "-1", "1:", "1 0"] {
        assert!(!Scheme::Rpm.reads(nonsense), "{nonsense}");
    }
}

/// Section 11 of the standard, and what registries hold beside it.
#[test]
fn semver() {
    check(
        Scheme::Semver,
        "1.0.0 < 2.0.0 < 2.1.0 < 2.1.1
         1.0.0-alpha < 1.0.0-alpha.1 < 1.0.0-alpha.beta < 1.0.0-beta < 1.0.0-beta.2 < 1.0.0-beta.11 < 1.0.0-rc.1 < 1.0.0
         1.0.0-0.3.7 < 1.0.0-alpha < 1.0.0-x.7.z.92 < 1.0.0-x-y-z.4
         1.0.0+001 = 1.0.0+20130313144700 = v1.0.0 = 1 = 1.0
         1.0.0-beta+exp.sha.5114f85 = 1.0.0-beta < 1.0.0
         0 = 0.0.0 < 0.0.1-0 < 0.0.1
         1.2.3 < 1.2.3.1 < 1.2.4-0
         1.0.0-2 < 1.0.0-10 < 1.0.0-1a < 1.0.0-a
         1.0.99999999999999999999998 < 1.0.99999999999999999999999",
    );
    for nonsense in ["", "latest", "1.x", "1..2", "1.2.3 beta", "git+ssh://x"] {
        assert!(!Scheme::Semver.reads(nonsense), "{nonsense}");
    }
}

/// Modules, pseudo-versions, and releases of Go.
#[test]
fn go() {
    check(
        Scheme::Go,
        "v0.0.0-20190101000000-0123456789ab < v0.0.0-20200622213623-75b288015ac9 < v0.0.1
         v1.2.3 < v1.2.4-0.20191109021931-daa7c04131f5 < v1.2.4
         v2.0.0+incompatible = v2.0.0 < v20.10.7+incompatible < v23.0.3+incompatible
         v1.2.3-pre.0.20191109021931-daa7c04131f5 < v1.2.3
         go1.20.14 < go1.21rc2 = 1.21.0-rc.2 < go1.21rc3 < go1.21 = 1.21.0 < go1.21.3 < go1.22beta1 < go1.22rc1
         1.21.0-0 < go1.21rc1
         go1.21.3 = 1.21.3
         go1.9 < go1.10",
    );
    for nonsense in ["", "(devel)", "devel go1.23-abcdef", "main"] {
        assert!(!Scheme::Go.reads(nonsense), "{nonsense}");
    }
    assert!(Scheme::Go.reads("go1.21.3 X:boringcrypto"));
}

/// PEP 440's own list, and what it says of epochs and spellings.
#[test]
fn pep440() {
    check(
        Scheme::Pep440,
        "1.dev0 < 1.0.dev456 < 1.0a1 < 1.0a2.dev456 < 1.0a12.dev456 < 1.0a12 < 1.0b1.dev456 < 1.0b2 < 1.0b2.post345.dev456 < 1.0b2.post345 < 1.0rc1.dev456 < 1.0rc1 < 1.0 < 1.0+abc.5 < 1.0+abc.7 < 1.0+5 < 1.0.post456.dev34 < 1.0.post456 < 1.0.15 < 1.1.dev1
         2013.10 < 2014.04 < 1!1.0 < 1!1.1 < 1!2.0
         0.9 < 0.9.1 < 0.9.2 < 0.9.10 < 0.9.11 < 1.0 = 1.0.0 < 1.0.1 < 1.1
         1.1RC1 = 1.1rc1 = 1.1-c1 = v1.1.rc1
         1.0-1 = 1.0.post1 = 1.0-r1
         1.0+ubuntu-1 = 1.0+ubuntu.1
         2004d < 2004e < 0.1 < 2004b = 2004b0
         1.26.4 < 1.26.5 < 2.0.0a1",
    );
    assert!(!Scheme::Pep440.reads("unknown") && !Scheme::Pep440.reads(""));
}

/// `ComparableVersionTest` of Maven 3.9 and the page that describes POMs.
#[test]
fn maven() {
    check(
        Scheme::Maven,
        "1-alpha2snapshot < 1-alpha2 < 1-alpha-123 < 1-beta-2 < 1-beta123 < 1-m2 < 1-m11 < 1-rc < 1-cr2 < 1-rc123 < 1-SNAPSHOT < 1 < 1-sp < 1-sp2 < 1-sp123 < 1-abc < 1-def < 1-pom-1 < 1-1-snapshot < 1-1 < 1-2 < 1-123
         2.0 < 2.0.a < 2-1 < 2.0.2 < 2.0.123 < 2.1.0 < 2.1-a < 2.1b < 2.1-c < 2.1-1 < 2.1.0.1 < 2.2 < 2.123 < 11.a2 < 11.a11 < 11.b2 < 11.b11 < 11.m2 < 11.m11 < 11 < 11.a < 11b < 11c < 11m
         1 = 1.0 = 1.0.0 = 1-0 = 1.0-0 = 1ga = 1final = 1.ga = 1-ga = 1GA = 1FinaL = 1. = 1-
         1a = 1.a = 1-a = 1.0-a = 1.0.0-a = 1A
         1x = 1.x = 1-x = 1.0-x = 1.0.0-x = 1X
         1cr = 1rc = 1Cr
         1a1 = 1alpha1 = 1-alpha-1 < 1b2 = 1beta2 < 1m3 = 1MileStone3
         1.5 < 2 < 2.5
         1.0-alpha-1-SNAPSHOT < 1.0-alpha-1 < 1.0-alpha-2 < 1.0-beta-1 < 1.0-SNAPSHOT < 1.0 < 1.0-1 < 1.0-2 < 1.1
         2.0-1 < 2.0.1 < 2.0.1-klm < 2.0.1-lmn < 2.0.1-xyz < 2.0.1-123
         1-foo2 < 1-foo10
         1.foo = 1-foo < 1-1 < 1.1
         1-ga-1 = 1-1
         1.0.0-foo.0.0 = 1-foo
         2.0-beta9 < 2.0 < 2.3.1 < 2.12.2 < 2.15.0 < 2.16.0
         29.0-android < 29.0-jre < 30.0-android < 32.0.0-jre",
    );
    assert!(!Scheme::Maven.reads("${project.version}") && !Scheme::Maven.reads(""));
}

/// Texts that look like versions of any scheme, short enough to be equal at times.
fn version() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "0", "1", "2", "10", "01", "00", ".", ".", "-", "~", "^", "+", "_", ":", "!", "a", "b",
        "rc", "r", "-r1", "_p", "_rc", "alpha", "final", "sp", "dev", "post", "v", "go", "x", ".0",
        "-0", ".1", "é", " ",
    ]);
    prop::collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_order_is_total(a in version(), b in version(), c in version()) {
        for scheme in Scheme::ALL {
            let compare = |x: &str, y: &str| scheme.compare(x, y);
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse(), "{:?}", scheme);
            let mut sorted = [&a, &b, &c];
            sorted.sort_by(|x, y| compare(x, y));
            prop_assert!(compare(sorted[0], sorted[2]) != Ordering::Greater, "{:?} {:?}", scheme, sorted);
            if compare(&a, &b) == Ordering::Equal {
                prop_assert_eq!(compare(&a, &c), compare(&b, &c), "{:?}", scheme);
            }
        }
    }

    #[test]
    fn no_text_is_too_odd(a in ".{0,40}", b in ".{0,40}") {
        for scheme in Scheme::ALL {
            prop_assert_eq!(scheme.compare(&a, &b), scheme.compare(&b, &a).reverse());
            scheme.reads(&a);
        }
    }
}
