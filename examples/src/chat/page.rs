//! The page, carried in the program: no build step, no files to find.

/// What the page may do: talk to this server, run and style itself by its own
/// files. Should markup ever get in, it stays dead.
const SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// A file of the page.
#[derive(Debug)]
pub struct Asset {
    path: &'static str,
    content_type: &'static str,
    /// The file.
    pub body: &'static str,
}

impl Asset {
    /// The headers of the response.
    #[must_use]
    pub const fn headers(&self) -> [(&'static str, &'static str); 4] {
        [
            ("content-type", self.content_type),
            ("content-security-policy", SECURITY_POLICY),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-cache"),
        ]
    }
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

const ASSETS: &[Asset] = &[
    Asset {
        path: "/",
        content_type: "text/html; charset=utf-8",
        body: include_str!("../../chat/page/index.html"),
    },
    Asset {
        path: "/chat.css",
        content_type: "text/css; charset=utf-8",
        body: include_str!("../../chat/page/chat.css"),
    },
    script("/chat.js", include_str!("../../chat/page/chat.js")),
    script("/view.js", include_str!("../../chat/page/view.js")),
    script("/feed.js", include_str!("../../chat/page/feed.js")),
    script(
        "/connection.js",
        include_str!("../../chat/page/connection.js"),
    ),
    script("/outbox.js", include_str!("../../chat/page/outbox.js")),
    script("/backoff.js", include_str!("../../chat/page/backoff.js")),
];

const fn script(path: &'static str, body: &'static str) -> Asset {
    Asset {
        path,
        content_type: SCRIPT,
        body,
    }
}

/// The file of the page at `path`.
#[must_use]
pub fn asset(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_the_page_names_is_served() {
        let quoted = ASSETS.iter().flat_map(|asset| asset.body.split('"'));
        let named: Vec<&str> = quoted
            .filter(|text| text.ends_with(".js") || text.ends_with(".css"))
            .map(|text| text.trim_start_matches(['.', '/']))
            .collect();
        assert!(named.len() >= 7, "{named:?}");
        for file in named {
            assert!(asset(&format!("/{file}")).is_some(), "{file}");
        }
    }

    #[test]
    fn nothing_else_is() {
        assert!(asset("/chat.js/").is_none());
        assert!(asset("").is_none());
    }
}
