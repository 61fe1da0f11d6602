/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The cipher of io/tls_gcm.c beside OpenSSL's own: what one encrypts the other decrypts, in any pieces
 * and of any length; what was changed on the way is refused; and TLS takes it.  The file is part of this
 * one, so that it can be seen how often libipsec-mb is called.
 */
#include "io/tls_gcm.c" // NOLINT: see above

#include "io/tls.h"
#include "tests/unit/test_pki.h"
#include "tests/unit/random.h"
#include "tests/unit/unit.h"

#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { TEXT_MAX = 20000, TAG = 16, ROUNDS = 400 };

static EVP_CIPHER *wide, *own;

/* One message, as it is before and after. */
struct message {
    uint8_t key[16], nonce[12], aad[13], tag[TAG];
    uint8_t text[TEXT_MAX], sealed[TEXT_MAX], opened[TEXT_MAX];
    int length, aad_length;
};

static struct message message;

static void fill(uint8_t *data, size_t length)
{
    for (size_t i = 0; i < length; i++)
        data[i] = (uint8_t)random_u64();
}

static void make_message(void)
{
    fill(message.key, sizeof message.key);
    fill(message.nonce, sizeof message.nonce);
    fill(message.aad, sizeof message.aad);
    message.length = (int)any_size(TEXT_MAX - 1) - 1;
    message.aad_length = (int)below(sizeof message.aad + 1);
    fill(message.text, (size_t)message.length);
}

static void update(EVP_CIPHER_CTX *context, uint8_t *out, const uint8_t *in, int length,
                   bool in_pieces)
{
    int written;

    for (int at = 0, n; at < length; at += n) {
        n = in_pieces ? (int)any_size((uint64_t)(length - at)) : length;
        n = n > length - at ? length - at : n;
        assert_int_equal(EVP_CipherUpdate(context, out + at, &written, in + at, n), 1);
        assert_int_equal(written, n);
    }
}

/* As libssl does it: the key once, then each message with a nonce of its own. */
static EVP_CIPHER_CTX *begin_message(const EVP_CIPHER *cipher, bool encrypts)
{
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int written;

    assert_non_null(context);
    assert_int_equal(EVP_CipherInit_ex(context, cipher, NULL, NULL, NULL, encrypts), 1);
    assert_int_equal(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_IVLEN, 12, NULL), 1);
    assert_int_equal(EVP_CipherInit_ex(context, NULL, NULL, message.key, NULL, -1), 1);
    assert_int_equal(EVP_CipherInit_ex(context, NULL, NULL, NULL, message.nonce, encrypts), 1);
    if (!encrypts)
        assert_int_equal(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG, message.tag), 1);
    if (message.aad_length > 0)
        assert_int_equal(EVP_CipherUpdate(context, NULL, &written, message.aad, message.aad_length),
                         1);
    return context;
}

static void seal(const EVP_CIPHER *cipher, bool in_pieces)
{
    EVP_CIPHER_CTX *context = begin_message(cipher, true);
    int written;

    update(context, message.sealed, message.text, message.length, in_pieces);
    assert_int_equal(EVP_CipherFinal_ex(context, message.sealed + message.length, &written), 1);
    assert_int_equal(written, 0);
    assert_int_equal(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG, message.tag), 1);
    EVP_CIPHER_CTX_free(context);
}

/* Whether it is let pass. */
static bool open_sealed(const EVP_CIPHER *cipher, bool in_pieces)
{
    EVP_CIPHER_CTX *context = begin_message(cipher, false);
    int written, r;

    update(context, message.opened, message.sealed, message.length, in_pieces);
    r = EVP_CipherFinal_ex(context, message.opened + message.length, &written);
    EVP_CIPHER_CTX_free(context);
    return r == 1;
}

static void agrees_with_openssl(void **state)
{
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        uint8_t sealed[TEXT_MAX], tag[TAG];

        make_message();
        seal(own, false);
        memcpy(sealed, message.sealed, (size_t)message.length);
        memcpy(tag, message.tag, TAG);
        seal(wide, i % 2);
        assert_memory_equal(message.sealed, sealed, (size_t)message.length);
        assert_memory_equal(message.tag, tag, TAG);
        assert_true(open_sealed(wide, i % 4 > 1));
        assert_memory_equal(message.opened, message.text, (size_t)message.length);
    }
}

static void refuses_what_was_changed(void **state)
{
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        size_t places, place;

        make_message();
        seal(own, false);
        places = (size_t)message.length + (size_t)message.aad_length + TAG;
        place = below(places);
        if (place < TAG)
            message.tag[place] ^= (uint8_t)(1 << below(8));
        else if (place < TAG + (size_t)message.aad_length)
            message.aad[place - TAG] ^= (uint8_t)(1 << below(8));
        else
            message.sealed[place - TAG - (size_t)message.aad_length] ^= (uint8_t)(1 << below(8));
        assert_false(open_sealed(wide, false));
    }
}

/* A nonce used for two messages gives the key away. */
static void takes_a_nonce_once(void **state)
{
    EVP_CIPHER_CTX *context;
    uint8_t out[32];
    int written;

    (void)state;
    make_message();
    message.aad_length = 0;
    context = begin_message(wide, true);
    assert_int_equal(EVP_CipherUpdate(context, out, &written, message.text, 16), 1);
    assert_int_equal(EVP_CipherFinal_ex(context, out + 16, &written), 1);
    assert_int_not_equal(EVP_CipherUpdate(context, out, &written, message.text, 16), 1);
    EVP_CIPHER_CTX_free(context);
}

static void refuses_other_sizes(void **state)
{
    EVP_CIPHER_CTX *context;

    (void)state;
    make_message();
    context = begin_message(wide, false);
    assert_int_not_equal(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_IVLEN, 16, NULL), 1);
    assert_int_not_equal(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, 4, message.tag), 1);
    EVP_CIPHER_CTX_free(context);
}

#ifdef HAVE_IPSEC_MB
static aes_gcm_enc_dec_update_t encrypt_update;
static unsigned encrypted;

static void count_encrypted(const struct gcm_key_data *key, struct gcm_context_data *context,
                            uint8_t *out, const uint8_t *in, uint64_t length)
{
    encrypted++;
    encrypt_update(key, context, out, in, length);
}

static struct tls_context *context;
static bool loaded_by_tls;

/* A connection of the product's own, whose records go through the library. */
static void encrypts_a_connection(void **state)
{
    struct error err = ERROR_INIT;
    struct tls *client, *server;
    int pair[2], shaken = 0;
    unsigned before;
    char text[6];

    (void)state;
    assert_true(loaded_by_tls);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    client = tls_new_client(context, pair[0], "localhost", &err);
    server = tls_new_server(context, pair[1], &err);
    assert_non_null(client);
    assert_non_null(server);
    encrypt_update = library->gcm128_enc_update;
    library->gcm128_enc_update = count_encrypted;
    for (int i = 0; i < 100 && shaken != 2; i++)
        shaken = tls_handshake(client, &err) + tls_handshake(server, &err);
    assert_int_equal(shaken, 2);
    before = encrypted;
    assert_int_equal(tls_write(client, "hello", 6, &err), 6);
    assert_int_equal(tls_flush(client, &err), 0);
    assert_int_equal(encrypted, before + 1);
    assert_int_equal(tls_read(server, text, sizeof text, &err), 6);
    assert_string_equal(text, "hello");
    tls_free(client);
    tls_free(server);
    library->gcm128_enc_update = encrypt_update;
}

/* Before anything else here has asked for the cipher. */
static int make_context(void)
{
    struct test_ca *ca = test_ca_new("CA");
    char *pki = test_pki_dir(ca, NULL);
    struct error err = ERROR_INIT;

    context = tls_context_new(pki, &err);
    loaded_by_tls = loaded;
    test_pki_remove(pki);
    test_ca_free(ca);
    return context ? 0 : -1;
}
#endif

/* And everything else stays OpenSSL's. */
static void is_preferred_by_tls(void **state)
{
    static const char *const others[] = {"AES-256-GCM", "ChaCha20-Poly1305", "AES-128-CBC"};
    SSL_CTX *tls = SSL_CTX_new_ex(NULL, tls_gcm_properties(), TLS_method());
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, "AES-128-GCM", tls_gcm_properties());

    (void)state;
    assert_non_null(tls);
    assert_string_equal(OSSL_PROVIDER_get0_name(EVP_CIPHER_get0_provider(cipher)), "bistream");
    EVP_CIPHER_free(cipher);
    for (size_t i = 0; i < ARRAY_LENGTH(others); i++) {
        cipher = EVP_CIPHER_fetch(NULL, others[i], tls_gcm_properties());
        assert_non_null(cipher);
        assert_string_equal(OSSL_PROVIDER_get0_name(EVP_CIPHER_get0_provider(cipher)), "default");
        EVP_CIPHER_free(cipher);
    }
    SSL_CTX_free(tls);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_openssl),   cmocka_unit_test(refuses_what_was_changed),
        cmocka_unit_test(takes_a_nonce_once),    cmocka_unit_test(refuses_other_sizes),
        cmocka_unit_test(is_preferred_by_tls),
#ifdef HAVE_IPSEC_MB
        cmocka_unit_test(encrypts_a_connection),
#endif
    };
    int r;

    random_state = from_environment("SEED", 1);
#ifdef HAVE_IPSEC_MB
    if (make_context() < 0)
        return 1;
#endif
    if (!tls_gcm_properties()) {
        puts("skipped: OpenSSL's own AES-128-GCM is used: this processor has no wide instructions "
             "for it, or OpenSSL uses them, or bistream was built without libipsec-mb");
        r = 77;
        goto done;
    }
    printf("SEED=%llu\n", (unsigned long long)random_state);
    wide = EVP_CIPHER_fetch(NULL, "AES-128-GCM", "provider=bistream");
    own = EVP_CIPHER_fetch(NULL, "AES-128-GCM", "provider=default");
    assert_non_null(wide);
    assert_non_null(own);
    r = cmocka_run_group_tests(tests, NULL, NULL);
    EVP_CIPHER_free(wide);
    EVP_CIPHER_free(own);
done:
#ifdef HAVE_IPSEC_MB
    tls_context_free(context);
#endif
    return r;
}
