//! The demo page of development mode: two tenants with a room of the same name, each user on its own connection.
//!
//! Invariant: the page is one answer. It loads nothing from anywhere (its own content security policy says so), and the names and tokens
//! put into it can only ever be read as data.

/// One of the page's users.
#[derive(Clone, Debug, serde::Serialize)]
pub struct DemoToken {
    pub tenant: String,
    pub user: String,
    /// A token of this user that may join and publish.
    pub token: String,
}

/// Tenants and users of the page. They talk in the room `project:7` of their own tenant.
pub const USERS: [(&str, &str); 4] = [("acme", "ana"), ("acme", "ben"), ("globex", "gus"), ("globex", "ivy")];

const TEMPLATE: &str = include_str!("demo.html");
/// Where the tokens go: `[]` in the template, which is a page without users and so can be looked at by itself.
const BEFORE: &str = "<script type=\"application/json\" id=\"tokens\">";

/// The page, UTF-8. It holds live tokens: send it with `Cache-Control: no-store`, and on loopback only.
pub fn page(tokens: &[DemoToken]) -> Vec<u8> {
    // In a script element only `<` could end the data; in JSON strings, the one place where it may stand, it has an escape.
    let json = serde_json::to_string(tokens).unwrap_or_else(|_| "[]".into()).replace('<', "\\u003c");
    match TEMPLATE.split_once(BEFORE) {
        Some((before, after)) => {
            [before, BEFORE, &json, after.strip_prefix("[]").unwrap_or(after)].concat().into_bytes()
        }
        None => TEMPLATE.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(page: &[u8]) -> serde_json::Value {
        let page = std::str::from_utf8(page).unwrap();
        let (_, after) = page.split_once(BEFORE).unwrap();
        serde_json::from_str(after.split_once("</script>").unwrap().0).unwrap()
    }

    #[test]
    fn tokens_are_data_whatever_they_say() {
        for name in ["acme", "</script><script>alert(1)</script>", "<!--<script>", "\u{2028}\"'&"] {
            let token = DemoToken { tenant: name.into(), user: "ana".into(), token: "a.b.c".into() };
            let page = page(&[token.clone(), token]);
            let data = data(&page);
            assert_eq!((data[0]["tenant"].as_str(), data[1]["token"].as_str()), (Some(name), Some("a.b.c")));
            // The page's own script elements and no more.
            assert_eq!(
                String::from_utf8(page).unwrap().matches("<script").count(),
                TEMPLATE.matches("<script").count()
            );
        }
        assert_eq!(data(&page(&[])), serde_json::json!([]));
    }

    #[test]
    fn the_page_needs_no_other_host_and_has_no_inline_handlers() {
        let page = TEMPLATE.replace("http://www.w3.org/2000/svg", "");
        for banned in
            ["http://", "https://", "//cdn", "@import", " onclick", " onload", "innerHTML", "eval(", "localStorage"]
        {
            assert!(!page.contains(banned), "{banned}");
        }
        for role in ["messages", "input", "send", "status", "cut", "presence", "typing", "offsets", "crossed"] {
            assert!(page.contains(&format!("data-role=\"{role}\"")), "{role}");
        }
    }
}
