/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What went wrong with TLS, as an operator can act on it.
 *
 * Three sources are asked in this order.  What our own verification refused was kept by
 * tls_verify_callback(), because OpenSSL drops the certificate with the handshake.  What the peer
 * refused comes as an alert; in TLS 1.3 often after our side of the handshake was done, so reading
 * has to explain it too.  The rest is in OpenSSL's error queue.
 */
#include "config.h"

#include "io/tls_internal.h"
#include "common/cleanup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- names ----------------------------------------------------------------------------------- */

char *tls_name_text(const X509_NAME *name)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL, *data;
    long length;

    if (bio && name && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0) {
        length = BIO_get_mem_data(bio, &data);
        text = strndup(length > 0 ? data : "", length > 0 ? (size_t)length : 0);
    }
    BIO_free(bio);
    ERR_clear_error();
    return text;
}

/* A copy of STRING, when it is the kind of text that a name may be: visible ASCII. */
static char *plain_text(const ASN1_STRING *string)
{
    const unsigned char *data = ASN1_STRING_get0_data(string);
    int length = ASN1_STRING_length(string);

    if (length <= 0)
        return NULL;
    for (int i = 0; i < length; i++)
        if (data[i] < 0x20 || data[i] > 0x7e)
            return NULL;
    return strndup((const char *)data, (size_t)length);
}

static char *address_text(const ASN1_OCTET_STRING *address)
{
    const unsigned char *data = ASN1_STRING_get0_data(address);
    char text[INET6_ADDRSTRLEN];

    switch (ASN1_STRING_length(address)) {
    case 4:
        return strdup(inet_ntop(AF_INET, data, text, sizeof text));
    case 16:
        return strdup(inet_ntop(AF_INET6, data, text, sizeof text));
    default:
        return NULL;
    }
}

static char *common_name(const X509 *certificate)
{
    const X509_NAME *subject = X509_get_subject_name(certificate);
    int i = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);

    return i < 0 ? NULL : plain_text(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, i)));
}

char **tls_certificate_names(X509 *certificate)
{
    GENERAL_NAMES *san = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    int count = san ? sk_GENERAL_NAME_num(san) : 0;
    char **names = calloc((size_t)count + 2, sizeof *names), **next = names;

    if (names) {
        *next = common_name(certificate);
        if (*next)
            next++;
    }
    for (int i = 0; names && i < count; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(san, i);

        if (name->type == GEN_DNS)
            *next = plain_text(name->d.dNSName);
        else if (name->type == GEN_IPADD)
            *next = address_text(name->d.iPAddress);
        if (*next)
            next++;
    }
    GENERAL_NAMES_free(san);
    ERR_clear_error();
    return names;
}

void tls_names_free(char **names)
{
    if (!names)
        return;
    for (char **name = names; *name; name++)
        free(*name);
    free(names);
}

/* "a.example.org, 10.0.0.1": what a certificate is made out to. */
static char *joined_names(X509 *certificate)
{
    char **names = tls_certificate_names(certificate);
    char *joined = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&joined, &size);

    for (char **name = names; out && name && *name; name++)
        fprintf(out, "%s%s", name == names ? "" : ", ", *name);
    if (out)
        fclose(out);
    tls_names_free(names);
    return joined;
}

/* ---- what our verification refuses ----------------------------------------------------------- */

static void date_text(const ASN1_TIME *when, char *text, size_t size)
{
    struct tm tm;

    if (!when || ASN1_TIME_to_tm(when, &tm) != 1 ||
        strftime(text, size, "%Y-%m-%d %H:%M UTC", &tm) == 0)
        snprintf(text, size, "an unknown date");
}

void tls_refusal_release(struct tls_refusal *refusal)
{
    free(refusal->who);
    free(refusal->signer);
    free(refusal->names);
    *refusal = (struct tls_refusal){.code = 0};
}

int tls_verify_callback(int preverify_ok, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls *tls = SSL_get_app_data(ssl);
    X509 *certificate = X509_STORE_CTX_get_current_cert(store);
    const X509_CRL *crl = X509_STORE_CTX_get0_current_crl(store);
    struct tls_refusal *refusal = &tls->refusal;
    const ASN1_TIME *when = NULL;

    if (preverify_ok || refusal->code)
        return preverify_ok;
    refusal->code = X509_STORE_CTX_get_error(store);
    refusal->depth = X509_STORE_CTX_get_error_depth(store);
    if (certificate) {
        refusal->who = tls_name_text(X509_get_subject_name(certificate));
        refusal->signer = tls_name_text(X509_get_issuer_name(certificate));
        refusal->names = joined_names(certificate);
        when = refusal->code == X509_V_ERR_CERT_NOT_YET_VALID ? X509_get0_notBefore(certificate)
                                                              : X509_get0_notAfter(certificate);
    }
    if (crl && refusal->code == X509_V_ERR_CRL_HAS_EXPIRED)
        when = X509_CRL_get0_nextUpdate(crl);
    date_text(when, refusal->date, sizeof refusal->date);
    return 0;
}

static const char *or_unknown(const char *text)
{
    return text && *text ? text : "(no name)";
}

static int explain_expired(const struct tls *tls, struct error *err)
{
    const struct tls_refusal *refusal = &tls->refusal;

    if (refusal->depth > 0)
        return error_set(err, EKEYEXPIRED,
                         "the CA certificate %s above that of %s expired on %s; make a new CA and "
                         "new certificates with 'bistream pki'",
                         or_unknown(refusal->who), tls->peer, refusal->date);
    return error_set(err, EKEYEXPIRED,
                     "the certificate of %s expired on %s; make a new one with 'bistream pki host'",
                     tls->peer, refusal->date);
}

static int explain_refusal(const struct tls *tls, struct error *err)
{
    const struct tls_refusal *refusal = &tls->refusal;
    const char *pki = tls->context->pki_dir;

    switch (refusal->code) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return explain_expired(tls, err);
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return error_set(err, EKEYREJECTED,
                         "the certificate of %s (%s) is valid only from %s on; are the clocks of "
                         "both hosts right?",
                         tls->peer, or_unknown(refusal->who), refusal->date);
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return error_set(err, EKEYREJECTED,
                         "the certificate of %s is made out to %s: use one of these names, or make "
                         "a certificate that holds the name",
                         tls->peer, or_unknown(refusal->names));
    case X509_V_ERR_CERT_REVOKED:
        return error_set(err, EKEYREVOKED,
                         "the certificate of %s (%s) was revoked, says %s/crl.pem", tls->peer,
                         or_unknown(refusal->who), pki);
    case X509_V_ERR_CRL_HAS_EXPIRED:
        return error_set(err, EKEYREJECTED,
                         "can't tell whether the certificate of %s was revoked: %s/crl.pem was to "
                         "be replaced by %s",
                         tls->peer, pki, refusal->date);
    case X509_V_ERR_UNABLE_TO_GET_CRL:
        return error_set(err, EKEYREJECTED,
                         "can't tell whether the certificate of %s was revoked: %s/crl.pem holds "
                         "no list of %s",
                         tls->peer, pki, or_unknown(refusal->signer));
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        return error_set(err, EKEYREJECTED,
                         "the certificate of %s is signed by an unknown CA, %s; both hosts need "
                         "certificates of one CA (here: %s/cacert.pem)",
                         tls->peer, or_unknown(refusal->signer), pki);
    default:
        return error_set(err, EKEYREJECTED, "the certificate of %s (%s) is refused: %s", tls->peer,
                         or_unknown(refusal->who), X509_verify_cert_error_string(refusal->code));
    }
}

/* ---- what the peer refuses, and the rest ----------------------------------------------------- */

/* The alerts by which a peer says that it doesn't like our certificate (RFC 8446, 6.2). */
static const struct {
    int alert;
    const char *text;
} alerts[] = {
    {SSL_AD_BAD_CERTIFICATE, "it says that it is broken"},
    {SSL_AD_UNSUPPORTED_CERTIFICATE, "it is of a kind that can't be used for this"},
    {SSL_AD_CERTIFICATE_REVOKED, "it was revoked"},
    {SSL_AD_CERTIFICATE_EXPIRED, "it has expired; make a new one with 'bistream pki host'"},
    {SSL_AD_CERTIFICATE_UNKNOWN, "it says no more than that"},
    {SSL_AD_UNKNOWN_CA, "it doesn't know our CA; both hosts need certificates of one CA"},
    {SSL_AD_ACCESS_DENIED, "it is not allowed there"},
    {SSL_AD_DECRYPT_ERROR, "its signature doesn't match the CA that both name"},
};

static int explain_alert(const struct tls *tls, int alert, struct error *err)
{
    for (size_t i = 0; i < sizeof alerts / sizeof *alerts; i++)
        if (alerts[i].alert == alert)
            return error_set(err, EACCES, "%s refused our certificate (%s/hostcert.pem): %s",
                             tls->peer, tls->context->pki_dir, alerts[i].text);
    if (alert == TLS13_AD_CERTIFICATE_REQUIRED)
        return error_set(err, EACCES, "%s wants a certificate and got none", tls->peer);
    if (alert == SSL_AD_PROTOCOL_VERSION)
        return error_set(err, EPROTO, "%s doesn't speak TLS 1.3", tls->peer);
    return error_set(err, EPROTO, "%s ended TLS: %s", tls->peer, SSL_alert_desc_string_long(alert));
}

static int explain_reason(const struct tls *tls, unsigned long code, struct error *err)
{
    const char *text = ERR_reason_error_string(code);

    if (ERR_GET_LIB(code) == ERR_LIB_SSL && !tls->established) {
        switch (ERR_GET_REASON(code)) {
        case SSL_R_WRONG_VERSION_NUMBER:
        case SSL_R_HTTP_REQUEST:
        case SSL_R_HTTPS_PROXY_REQUEST:
        case SSL_R_PACKET_LENGTH_TOO_LONG:
        case SSL_R_UNEXPECTED_MESSAGE:
        case SSL_R_BAD_RECORD_TYPE:
        case SSL_R_RECORD_LENGTH_MISMATCH:
        case SSL_R_INVALID_CCS_MESSAGE:
            return error_set(err, EPROTO,
                             tls->client
                                 ? "what answers at %s doesn't speak TLS; is it bistreamd's "
                                   "port?"
                                 : "%s doesn't speak TLS",
                             tls->peer);
        case SSL_R_UNSUPPORTED_PROTOCOL:
        case SSL_R_NO_PROTOCOLS_AVAILABLE:
            return error_set(err, EPROTO, "%s doesn't speak TLS 1.3", tls->peer);
        case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
            return error_set(err, EKEYREJECTED, "%s sent no certificate", tls->peer);
        default:
            break;
        }
    }
    return error_set(err, EPROTO, "%s %s failed: %s",
                     tls->established ? "TLS with" : "the TLS handshake with", tls->peer,
                     text ? text : "for an unknown reason");
}

int tls_explain(struct tls *tls, struct error *err)
{
    unsigned long code = ERR_peek_error();
    int reason = ERR_GET_REASON(code);
    int r;

    if (tls->refusal.code)
        r = explain_refusal(tls, err);
    else if (ERR_GET_LIB(code) == ERR_LIB_SSL && reason >= SSL_AD_REASON_OFFSET &&
             reason < SSL_AD_REASON_OFFSET + 256)
        r = explain_alert(tls, reason - SSL_AD_REASON_OFFSET, err);
    else
        r = explain_reason(tls, code, err);
    ERR_clear_error();
    return r;
}

int tls_explain_file(struct error *err, const char *doing, const char *path)
{
    const char *text = ERR_reason_error_string(ERR_peek_last_error());

    ERR_clear_error();
    return error_set(err, EINVAL, "%s %s: %s", doing, path, text ? text : "not enough memory");
}
