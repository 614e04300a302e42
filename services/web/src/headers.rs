//! The headers of every answer, so that a browser serves no other site with our pages.

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
};
use tower_http::set_header::{SetResponseHeaderLayer, response::SetMultipleResponseHeadersLayer};

/// Only our own scripts, styles, images and connections; nothing inline, nothing in a frame, no other base.
pub(crate) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
    manifest-src 'self'";

const FIXED: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), microphone=(), geolocation=(), payment=(), usb=(), interest-cohort=()",
    ),
];

/// Sets them on every answer; `tls` says whether TLS ends before the app.
pub(crate) fn with_headers(router: Router, tls: bool) -> Router {
    let year = tls.then_some((header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"));
    let fixed = FIXED.into_iter().chain(year).map(|(name, value)| (name, HeaderValue::from_static(value)).into());
    router
        .layer(SetMultipleResponseHeadersLayer::overriding(fixed.collect()))
        // An answer is for one visitor at one time.
        .layer(SetResponseHeaderLayer::if_not_present(header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
}
