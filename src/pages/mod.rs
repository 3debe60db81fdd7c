//! Pages for people: sign in, register, change the password, one's sessions, errors.
#![allow(clippy::todo, unused_variables, dead_code, missing_docs)]

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};

use crate::clock::UnixSeconds;
use crate::config::Problems;
use crate::config::raw::RawPages;

#[derive(Debug)]
pub struct Pages;

/// What all pages of somebody who is signed in show.
#[derive(Clone, Debug, Default)]
pub struct Person {
    pub email: String,
    pub name: Option<String>,
}

#[derive(Clone, Debug)]
pub struct SessionItem {
    pub id: String,
    pub is_current: bool,
    /// An API client's, not a browser's.
    pub is_client: bool,
    /// As sent.
    pub user_agent: String,
    pub address: String,
    pub created_at: UnixSeconds,
    pub seen_at: UnixSeconds,
    pub expires_at: UnixSeconds,
}

impl Pages {
    /// `prefix`: `/auth`; `site`: what the site is called unless `[pages] name` says; `registration`: whether the
    /// sign-in page links to it. Reads the logo and the templates and renders each template once, so that a broken one is
    /// a problem here.
    pub fn compile(raw: &RawPages, prefix: &str, site: &str, registration: bool, problems: &mut Problems) -> Self {
        todo!()
    }
    /// `message`: what went wrong before, in plain words.
    pub fn sign_in(
        &self,
        status: StatusCode,
        email: &str,
        return_to: Option<&str>,
        message: Option<&str>,
    ) -> Response<Bytes> {
        todo!()
    }
    /// `setup`: the one-time token of the first-run link, which goes into a hidden field.
    pub fn register(
        &self,
        status: StatusCode,
        email: &str,
        name: &str,
        setup: Option<&str>,
        message: Option<&str>,
    ) -> Response<Bytes> {
        todo!()
    }
    pub fn password(&self, status: StatusCode, person: &Person, message: Option<&str>) -> Response<Bytes> {
        todo!()
    }
    /// `notice`: what has just been done ("Password changed.").
    pub fn sessions(
        &self,
        person: &Person,
        sessions: &[SessionItem],
        now: UnixSeconds,
        notice: Option<&str>,
    ) -> Response<Bytes> {
        todo!()
    }
    /// Instead of the plain page of `http::reply`: the body alone.
    pub fn error(&self, status: StatusCode, title: &str, detail: &str, request_id: &str) -> Bytes {
        todo!()
    }
    /// The Content-Security-Policy of every page, [`Pages::error`]'s too.
    pub fn policy(&self) -> &HeaderValue {
        todo!()
    }
    /// The logo at `{prefix}/logo`, where there is one.
    pub fn logo(&self) -> Option<Response<Bytes>> {
        todo!()
    }
}
