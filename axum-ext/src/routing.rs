use axum::{
    handler::Handler,
    routing::{MethodFilter, MethodRouter, on},
};

/// Routes the handshakes of WebSockets to `handler`: GET, and the CONNECT that HTTP/2
/// has in its place (RFC 8441).
///
/// `get(handler)` would answer a WebSocket over HTTP/2 with 405. As there, HEAD goes to
/// the handler too.
///
/// ```
/// use axum::{Router, http::StatusCode};
/// use towpath_axum::ws;
///
/// // In earnest a handler that takes a `WsUpgrade`.
/// async fn chat() -> StatusCode { StatusCode::UPGRADE_REQUIRED }
///
/// let app: Router = Router::new().route("/chat", ws(chat));
/// ```
pub fn ws<H, T, S>(handler: H) -> MethodRouter<S>
where
    H: Handler<T, S>,
    T: 'static,
    S: Clone + Send + Sync + 'static,
{
    on(MethodFilter::GET.or(MethodFilter::CONNECT), handler)
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, extract::State};
    use http::{Method, Request, StatusCode, header};
    use tower_service::Service;

    use super::*;

    async fn answer(method: Method) -> http::Response<Body> {
        let handler = |State(name): State<&'static str>, method: Method| async move {
            // Not in the body: axum takes that away from an accepted CONNECT.
            [("x-seen", format!("{name} {method}"))]
        };
        let mut app = Router::new().route("/chat", ws(handler)).with_state("chat");
        let request = Request::builder().method(method).uri("/chat");
        app.call(request.body(Body::empty()).unwrap())
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn get_and_connect_reach_the_handler() {
        for method in [Method::GET, Method::CONNECT] {
            let expected = format!("chat {method}");
            let response = answer(method).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()["x-seen"], expected);
        }
    }

    #[tokio::test]
    async fn other_methods_get_the_frameworks_405() {
        let response = answer(Method::POST).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        let allow = response.headers()[header::ALLOW].to_str().unwrap();
        assert!(
            allow.contains("GET") && allow.contains("CONNECT"),
            "{allow}"
        );
    }
}
