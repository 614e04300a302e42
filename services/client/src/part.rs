//! The parts of pages that are updated live, as HTML.

use std::sync::Arc;

use contract::{config::Business, names};
use tera::Context;
use web::{Problem, Query, Visitor, live::Parts};

use crate::{
    app::{Client, check_session},
    overview::Overview,
    session::Session,
    view,
    watch::Seen,
};

impl Client {
    /// The session of the same business that a query compares with.
    ///
    /// # Errors
    /// When its name is not valid, or too many sessions are watched.
    pub(crate) fn against(&self, business: &Business, query: &Query) -> Result<Option<Arc<Seen<Session>>>, Problem> {
        let Some(name) = query.get("against") else { return Ok(None) };
        check_session(name)?;
        self.watch(business, name).map(Some)
    }

    /// The parts of a session's page.
    ///
    /// # Errors
    /// When a template is wrong.
    pub(crate) fn session_parts(
        &self,
        business: &Business,
        name: &str,
        session: &Session,
        query: &Query,
        visitor: &Visitor,
    ) -> Result<Parts, Problem> {
        let other = self.against(business, query)?.map(|seen| seen.latest());
        let other = query.get("against").zip(other.as_deref());
        let business = &business.name;
        let client = names::label_value(&visitor.name);
        let mut context = Context::new();
        context.insert("business", business);
        context.insert("session", name);
        context.insert("error", &session.error);
        context.insert("status", &view::status(session, &client));
        context.insert("jobs", &view::jobs(session, business, name, &client, query));
        context.insert("results", &view::results(session, name, other, query));
        context.insert("link", &web::encode([("business", business.as_str()), ("session", name)]));
        context.insert("kept", &query.0);
        let part = |template: &str| self.site.fragment(template, &context);
        Ok(Parts::from([
            ("status", part("client/status.html")?),
            ("results", part("client/results.html")?),
            ("jobs", part("client/jobs.html")?),
        ]))
    }

    /// The list of a business's sessions.
    ///
    /// # Errors
    /// When a template is wrong.
    pub(crate) fn overview_part(&self, business: &str, overview: &Overview, limit: usize) -> Result<String, Problem> {
        #[derive(serde::Serialize)]
        struct Row<'a> {
            session: &'a str,
            link: String,
            done: usize,
            total: usize,
            failed: usize,
            changed: String,
            bar: Vec<view::Segment>,
            state: &'static str,
        }
        let rows: Vec<Row<'_>> = overview
            .sessions
            .iter()
            .take(limit)
            .map(|summary| Row {
                session: &summary.session,
                link: web::encode([("business", business), ("session", summary.session.as_str())]),
                done: summary.counts.done(),
                total: summary.counts.total(),
                failed: summary.counts.unsuccessful(),
                changed: summary.changed.map(|time| time.to_string()).unwrap_or_default(),
                bar: view::bar(&summary.counts),
                state: match (summary.counts.pending(), summary.counts.unsuccessful()) {
                    (0, 0) => "succeeded",
                    (0, _) => "failed",
                    _ => "waiting",
                },
            })
            .collect();
        let mut context = Context::new();
        context.insert("business", business);
        context.insert("sessions", &rows);
        context.insert("more", &(overview.more + overview.sessions.len().saturating_sub(limit)));
        context.insert("error", &overview.error);
        self.site.fragment("client/sessions-part.html", &context)
    }
}
