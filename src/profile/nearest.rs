//! "Did you mean": the known name nearest to an unknown one.

/// The candidate nearest to `name`, if one is near enough to be meant: at most a third of its letters differ, or one is the other's tail
/// (`port` for `server.port`).
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_ascii_lowercase();
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let plain = candidate.to_ascii_lowercase();
            let distance = strsim::damerau_levenshtein(&name, &plain);
            let tail =
                |long: &str, short: &str| long.strip_suffix(short).is_some_and(|rest| rest.ends_with(['.', '_']));
            let near = distance * 3 <= plain.chars().count().max(3);
            let is_tail = tail(&plain, &name) || tail(&name, &plain);
            // Of several tails the first: a list of keys begins with the likeliest.
            (near || is_tail).then_some((if near { distance } else { usize::MAX }, candidate))
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn what_is_meant() {
        let known = ["server.port", "redis.port", "server.host", "server.admin_port", "auth.secret"];
        for (name, meant) in [
            ("server.prot", Some("server.port")),
            ("sever.host", Some("server.host")),
            ("server.adminport", Some("server.admin_port")),
            ("SERVER.PORT", Some("server.port")),
            ("port", Some("server.port")),
            ("auth.secrets", Some("auth.secret")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), meant, "{name}");
        }
    }
}
