//! The two OpenSSL functions that the `openssl` crate does not bind, and nothing else.
//!
//! This is the only file of the project with `unsafe` in it. Both functions are documented in
//! OpenSSL's manual, CMS_verify(3) and X509_STORE_add_cert(3).
#![allow(unsafe_code, reason = "two functions of OpenSSL that no crate binds")]

use std::ffi::c_int;

use foreign_types::{ForeignType as _, ForeignTypeRef as _};
use openssl::cms::CmsContentInfo;
use openssl::error::ErrorStack;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509Crl, X509Ref};
use openssl_sys::{CMS_ContentInfo, OPENSSL_STACK, X509_CRL, X509_STORE, stack_st_X509};

unsafe extern "C" {
    fn X509_STORE_add_crl(store: *mut X509_STORE, crl: *mut X509_CRL) -> c_int;
    fn CMS_get0_signers(cms: *mut CMS_ContentInfo) -> *mut stack_st_X509;
}

/// Lets the paths checked with `store` be checked against `crl` too.
pub(crate) fn add_crl(store: &mut X509StoreBuilder, crl: &X509Crl) -> Result<(), ErrorStack> {
    // SAFETY: both pointers are of live objects of the right type, borrowed for the call; the
    // function takes a reference of its own to the list (X509_STORE_add_cert(3)), so the store
    // does not depend on `crl` living on. `&mut` keeps other threads out of the store.
    let added = unsafe { X509_STORE_add_crl(store.as_ptr(), crl.as_ptr()) };
    if added == 1 { Ok(()) } else { Err(ErrorStack::get()) }
}

/// The certificates that the signatures in `cms` were verified with: to be called after
/// `openssl::cms::CmsContentInfoRef::verify` succeeded, empty before.
pub(crate) fn signers(cms: &CmsContentInfo) -> Vec<X509> {
    // SAFETY: the pointer is of a live CMS_ContentInfo. The stack that comes back is ours to
    // free, the certificates in it are the structure's (`get0`). Null means none.
    let stack = unsafe { CMS_get0_signers(cms.as_ptr()) }.cast::<OPENSSL_STACK>();
    if stack.is_null() {
        return Vec::new();
    }
    // SAFETY: `stack` is a live stack, and each index is below its count, so each element is a
    // non-null X509 that `cms` keeps alive during this call; `to_owned` takes a reference of its
    // own. The stack is freed once, without its elements, and not used after.
    unsafe {
        let count = openssl_sys::OPENSSL_sk_num(stack);
        let certificates = (0..count)
            .map(|index| openssl_sys::OPENSSL_sk_value(stack, index).cast::<openssl_sys::X509>())
            .map(|certificate| X509Ref::from_ptr(certificate).to_owned())
            .collect();
        openssl_sys::OPENSSL_sk_free(stack);
        certificates
    }
}
