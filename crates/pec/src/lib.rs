//! pec
