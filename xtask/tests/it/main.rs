//! End-to-end tests: the only place where every part of Deskgrid meets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "a test that skips says so")]

mod applyset;
mod batches;
mod bench;
mod browser;
mod builds;
mod cluster;
mod crashes;
mod credentials;
mod daily;
mod demo;
mod deploys;
mod desk;
mod duplicates;
mod emulator;
mod engine_steps;
mod goodbye;
mod images;
mod isolation;
mod keys;
mod keys_web;
mod kills;
mod laptop;
mod live_batch;
mod locks;
mod plans;
mod resources;
mod rollouts;
mod sessions;
mod setup;
mod setup_verbs;
mod soak;
mod tables;
mod tending;
mod tidy;
mod tools;
mod trust;
mod unreadable;
mod usage;
mod web_apps;
mod web_businesses;
mod web_client;
mod web_client_pages;
mod web_client_uploads;
mod web_client_ways;
mod web_iap;
mod web_monitor;
mod web_monitor_jobs;
mod web_monitor_load;
mod web_monitor_pages;
mod web_monitor_work;
mod web_rights;
mod world;
mod wrapped;
