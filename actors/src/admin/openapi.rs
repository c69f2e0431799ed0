//! The contract, as a file that tools read.

use actix_web::HttpResponse;

/// OpenAPI 3.1, written by hand; a test holds it against the routes.
pub const DOCUMENT: &str = include_str!("openapi.json");

pub async fn get() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(DOCUMENT)
}
