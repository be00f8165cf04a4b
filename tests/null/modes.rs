// SPDX-License-Identifier: MIT OR Apache-2.0
//! A forgotten mode does not compile.

#[test]
fn a_forgotten_mode_does_not_compile() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/null/modes/*.rs");
}
