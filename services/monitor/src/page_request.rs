//! The request for a page, and the parts that every page has.

use serde::Serialize;
use web::{Problem, Query, Visitor};

use crate::state::State;

/// A request for a page.
pub(crate) struct PageRequest<'a> {
    pub(crate) state: &'a State,
    pub(crate) visitor: &'a Visitor,
    pub(crate) query: &'a Query,
    /// Path and query of the page, to return to after an action.
    pub(crate) url: String,
}

impl PageRequest<'_> {
    /// A part from its template; `data` is what the template calls `it`.
    pub(crate) fn part(
        &self,
        id: &'static str,
        template: &str,
        data: &impl Serialize,
    ) -> Result<(&'static str, String), Problem> {
        let mut context = tera::Context::new();
        context.insert("it", data);
        context.insert("csrf", &self.visitor.csrf);
        context.insert("back", &self.url);
        Ok((id, self.state.site.fragment(template, &context)?))
    }

    /// Names of the businesses that the visitor may see.
    pub(crate) fn businesses(&self) -> Vec<String> {
        self.visitor.businesses_of(&self.state.site.config).iter().map(|business| business.name.clone()).collect()
    }

    /// The actions that the visitor started.
    pub(crate) fn operations(&self) -> Result<(&'static str, String), Problem> {
        self.part("operations", "operations.html", &self.state.operations.lines(self.visitor))
    }

    /// Services that do not answer, in the businesses shown.
    pub(crate) fn errors(&self) -> Result<(&'static str, String), Problem> {
        let only = self.query.get("business");
        let mut lines: Vec<(String, String, String)> = Vec::new();
        for view in self.state.views(self.visitor, only)? {
            for (service, error) in &view.errors {
                lines.push((view.business.name.clone(), (*service).to_owned(), error.clone()));
            }
        }
        self.part("errors", "errors.html", &lines)
    }
}
