//! Pages of lists: an opaque cursor, a bounded page.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ApiError;
use crate::limits;

/// Which page of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageParams {
    /// How many items, 1 to 200; 50 if absent.
    pub limit: Option<usize>,
    /// Where the page before ended: its `next_cursor`.
    pub cursor: Option<String>,
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins; null at the end.
    pub next_cursor: Option<String>,
}

/// A whole list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct List<T> {
    /// The items.
    pub items: Vec<T>,
}

/// How many items a page may have.
///
/// # Errors
/// `invalid_query` outside 1 to [`limits::PAGE_ITEMS_MAX`].
pub(super) fn limit(asked: Option<usize>) -> Result<usize, ApiError> {
    match asked {
        None => Ok(limits::PAGE_ITEMS_DEFAULT),
        Some(count) if (1..=limits::PAGE_ITEMS_MAX).contains(&count) => Ok(count),
        Some(_) => Err(ApiError::invalid_query(format!("limit must be 1 to {}", limits::PAGE_ITEMS_MAX))),
    }
}

/// The id after which a page begins; 0 for the first page.
///
/// # Errors
/// `invalid_query` when the cursor is not one of ours.
pub(super) fn cursor(text: Option<&str>) -> Result<u64, ApiError> {
    text.map_or(Ok(0), |text| {
        text.parse().map_err(|_| ApiError::invalid_query("cursor is not one that this server gave".to_owned()))
    })
}

/// Collects a page from chunks of rows, filtering, and stops after a bounded number of rows even when few match.
pub(super) struct Collector<T> {
    items: Vec<T>,
    limit: usize,
    seen: usize,
}

impl<T> Collector<T> {
    pub(super) const fn new(limit: usize) -> Self {
        Self { items: Vec::new(), limit, seen: 0 }
    }

    /// Looks at one row. Returns false when the page is full or enough was looked at.
    pub(super) fn offer(&mut self, item: Option<T>) -> bool {
        self.seen += 1;
        self.items.extend(item);
        self.items.len() < self.limit && self.seen < limits::PAGE_ROWS_SCANNED_MAX
    }

    /// The page; `last` is the key where looking stopped, `None` when the list ended.
    pub(super) fn page(self, last: Option<u64>) -> Page<T> {
        Page { items: self.items, next_cursor: last.map(|id| id.to_string()) }
    }
}
