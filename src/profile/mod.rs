//! Floor 1: an application as data. Pure: a profile's text in, checked values out.

pub mod template;
