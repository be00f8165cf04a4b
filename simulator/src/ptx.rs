// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads from PTX text what can be compared with the kernels built for the host: entries, parameter
//! sizes, launch bounds and the target. A plain list of `.visible .entry NAME` lines is read the
//! same way.

/// What a PTX text says of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// Each parameter's bytes; `None` if the text has no parameter list.
    pub(crate) parameters: Option<Vec<u32>>,
    /// `.maxntid`, multiplied out.
    pub(crate) most_threads: Option<u32>,
}

/// The entries of a PTX text.
///
/// # Errors
/// Says which declaration could not be read.
pub(crate) fn entries(text: &str) -> Result<Vec<Entry>, String> {
    let text = without_comments(text);
    text.split(".entry").skip(1).map(entry).collect()
}

/// The compute capability of `.target sm_NN`, as 10 * major + minor.
pub(crate) fn target(text: &str) -> Option<u32> {
    let after = without_comments(text)
        .split_once(".target")?
        .1
        .trim_start()
        .strip_prefix("sm_")?
        .to_owned();
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The version of `.version N.M`, as 10 * N + M; `None` where the text is only a list of names.
pub(crate) fn version(text: &str) -> Option<u32> {
    let text = without_comments(text);
    let (major, minor) =
        text.split_once(".version")?.1.split_whitespace().next()?.split_once('.')?;
    Some(major.parse::<u32>().ok()? * 10 + minor.parse::<u32>().ok()?)
}

fn entry(after_keyword: &str) -> Result<Entry, String> {
    let after = after_keyword.trim_start();
    let length =
        after.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(after.len());
    let (name, rest) = after.split_at(length);
    if name.is_empty() {
        return Err("an .entry without a name".into());
    }
    let rest = rest.trim_start();
    let (parameters, rest) = match rest.strip_prefix('(') {
        Some(list) => {
            let (list, rest) = list
                .split_once(')')
                .ok_or_else(|| format!("{name}: the parameter list does not end"))?;
            let sizes: Result<Vec<u32>, String> =
                list.split(',').filter(|p| !p.trim().is_empty()).map(parameter_bytes).collect();
            (Some(sizes.map_err(|problem| format!("{name}: {problem}"))?), rest)
        }
        None => (None, rest),
    };
    let directives = rest.split(['{', ';']).next().unwrap_or_default();
    Ok(Entry { name: name.into(), parameters, most_threads: most_threads(directives) })
}

/// `.param .align 8 .b8 name[64]` or `.param .u64 .ptr .global .align 4 name`.
fn parameter_bytes(declaration: &str) -> Result<u32, String> {
    let unread = || format!("cannot read the parameter `{}`", declaration.trim());
    let element = declaration.split_whitespace().find_map(type_bytes).ok_or_else(unread)?;
    let count = match declaration.split_once('[') {
        Some((_, rest)) => {
            rest.split(']').next().and_then(|n| n.trim().parse().ok()).ok_or_else(unread)?
        }
        None => 1,
    };
    Ok(element * count)
}

fn type_bytes(word: &str) -> Option<u32> {
    let bits = word.strip_prefix('.')?.strip_prefix(['b', 'u', 's', 'f'])?;
    bits.parse::<u32>().ok().map(|bits| bits / 8)
}

fn most_threads(directives: &str) -> Option<u32> {
    let sizes = directives.split_once(".maxntid")?.1;
    let end = sizes.find('.').unwrap_or(sizes.len());
    let mut product = 1u32;
    for size in sizes[..end].split(',') {
        product = product.checked_mul(size.trim().parse().ok()?)?;
    }
    Some(product)
}

fn without_comments(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("/*") {
        kept.push_str(&rest[..start]);
        rest = rest[start..].find("*/").map_or("", |end| &rest[start + end + 2..]);
    }
    kept.push_str(rest);
    kept.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTX: &str = "
.version 8.8
.target sm_90a, debug // a comment with .entry wrong(
.address_size 64
/* .entry also_wrong( */
.visible .entry scale(
    .param .align 8 .b8 scale_param_0[56],
    .param .u64 .ptr .global .align 4 scale_param_1,
    .param .f32 scale_param_2, .param .u8 scale_param_3
)
.maxntid 128, 2, 1
.minnctapersm 2
{
    ret;
}
.entry bare() { ret; }
";

    #[test]
    fn reads_sizes_bounds_and_target() {
        let found = entries(PTX).expect("valid PTX");
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].name, "scale");
        assert_eq!(found[0].parameters, Some(vec![56, 8, 4, 1]));
        assert_eq!(found[0].most_threads, Some(256));
        assert_eq!(
            found[1],
            Entry { name: "bare".into(), parameters: Some(vec![]), most_threads: None }
        );
        assert_eq!(target(PTX), Some(90));
        assert_eq!(version(PTX), Some(88));
    }

    #[test]
    fn reads_a_list_of_names() {
        let found = entries(".visible .entry a\n.visible .entry b\n").expect("a list");
        assert_eq!(found.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(found.iter().all(|e| e.parameters.is_none()));
        assert_eq!(version(".visible .entry a\n"), None);
    }

    #[test]
    fn says_what_it_cannot_read() {
        let error = entries(".entry k(.param .texref t) {}").expect_err("no size");
        assert!(error.contains("k:") && error.contains(".texref"), "{error}");
        assert!(entries(".entry k(.param .u32 t").is_err());
    }
}
