//! Every path of the API, once. A test holds it against `openapi.json`.

use actix_web::{
    HttpRequest, HttpResponse, Resource, ResponseError, Route,
    http::{Method, header},
    web,
};

use super::{
    backup, blocks, control, events, explain, history, openapi, prepare, problem::Problem, registry, status, submit,
    transactions,
};

/// The first path that matches is taken, so fixed ones stand before those with a variable.
pub fn table() -> Vec<(&'static str, Method, Route)> {
    vec![
        ("/v1/status", Method::GET, web::get().to(status::get)),
        ("/v1/blocks", Method::GET, web::get().to(blocks::list)),
        ("/v1/blocks/{at}", Method::GET, web::get().to(blocks::get)),
        ("/v1/transactions", Method::POST, web::post().to(submit::post)),
        ("/v1/transactions/prepare", Method::POST, web::post().to(prepare::post)),
        ("/v1/transactions/explain", Method::POST, web::post().to(explain::post)),
        ("/v1/transactions/{id}", Method::GET, web::get().to(transactions::get)),
        ("/v1/transactions/{id}/receipt", Method::GET, web::get().to(transactions::receipt)),
        ("/v1/users", Method::GET, web::get().to(registry::users)),
        ("/v1/users/{user}", Method::GET, web::get().to(registry::entry)),
        ("/v1/users/{user}/history", Method::GET, web::get().to(history::get)),
        ("/v1/nodes", Method::GET, web::get().to(registry::nodes)),
        ("/v1/nodes/{node}", Method::GET, web::get().to(registry::entry)),
        ("/v1/nodes/{node}/history", Method::GET, web::get().to(history::get)),
        ("/v1/organisations", Method::GET, web::get().to(registry::organisations)),
        ("/v1/organisations/{organisation}", Method::GET, web::get().to(registry::entry)),
        ("/v1/organisations/{organisation}/history", Method::GET, web::get().to(history::get)),
        ("/v1/policies", Method::GET, web::get().to(registry::policies)),
        ("/v1/policies/{policy}", Method::GET, web::get().to(registry::entry)),
        ("/v1/policies/{policy}/history", Method::GET, web::get().to(history::get)),
        ("/v1/record-types", Method::GET, web::get().to(registry::record_types)),
        ("/v1/record-types/{record_type}", Method::GET, web::get().to(registry::entry)),
        ("/v1/record-types/{record_type}/history", Method::GET, web::get().to(history::get)),
        ("/v1/events", Method::GET, web::get().to(events::get)),
        ("/v1/admin/stop", Method::POST, web::post().to(control::stop)),
        ("/v1/admin/message", Method::POST, web::post().to(control::message)),
        ("/v1/admin/log-level", Method::PUT, web::put().to(control::log_level)),
        ("/v1/admin/verify", Method::POST, web::post().to(control::verify)),
        ("/v1/admin/compare", Method::POST, web::post().to(control::compare)),
        ("/v1/admin/backup", Method::POST, web::post().to(backup::post)),
        ("/v1/openapi.json", Method::GET, web::get().to(openapi::get)),
    ]
}

pub fn configure(config: &mut web::ServiceConfig) {
    let mut resources: Vec<(&'static str, Vec<Method>, Resource)> = Vec::new();
    for (path, method, route) in table() {
        let (mut methods, resource) = match resources.pop_if(|(last, ..)| *last == path) {
            Some((_, methods, resource)) => (methods, resource),
            None => (Vec::new(), web::resource(path)),
        };
        methods.push(method);
        resources.push((path, methods, resource.route(route)));
    }
    for (_, methods, resource) in resources {
        let allow = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        config.service(
            resource.default_service(web::to(move |request: HttpRequest| {
                std::future::ready(wrong_method(&request, &allow))
            })),
        );
    }
    config.default_service(web::to(no_such_path));
}

fn wrong_method(request: &HttpRequest, allow: &str) -> HttpResponse {
    let mut response = Problem::method_not_allowed(request.method(), request.path()).error_response();
    if let Ok(allow) = allow.parse() {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

async fn no_such_path(request: HttpRequest) -> HttpResponse {
    Problem::no_such_path(request.path()).error_response()
}
