//! Text that goes through the kubelet: it replaces `$(VAR)` in `env`, `command` and `args` of a container, and `$$` by
//! `$`. Whatever a person named goes there escaped.

/// The text that the kubelet turns into `text`.
pub fn escape(text: &str) -> String {
    text.replace('$', "$$")
}

/// The text that [`escape`] made `escaped` of.
pub fn unescape(escaped: &str) -> String {
    escaped.replace("$$", "$")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The text that the kubelet makes of one when every variable is defined as `?`, after
    /// third_party/forked/golang/expansion/expand.go.
    fn expand(text: &str) -> String {
        let Some((before, after)) = text.split_once('$') else { return text.to_owned() };
        let expanded = match (after.strip_prefix('$'), after.strip_prefix('(').and_then(|name| name.split_once(')'))) {
            (Some(rest), _) => format!("${}", expand(rest)),
            (None, Some((_, rest))) => format!("?{}", expand(rest)),
            (None, None) => format!("${}", expand(after)),
        };
        format!("{before}{expanded}")
    }

    proptest! {
        #[test]
        fn the_kubelet_gives_back_what_was_escaped(text in "(\\PC|[$()A]){0,40}") {
            prop_assert_eq!(expand(&escape(&text)), text.clone());
            prop_assert_eq!(unescape(&escape(&text)), text);
        }
    }

    #[test]
    fn the_reference_expands() {
        assert_eq!(expand("a$(DESKGRID_CONFIG)$$(X)$ $(open"), "a?$(X)$ $(open");
    }
}
