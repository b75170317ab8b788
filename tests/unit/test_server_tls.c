/* SPDX-License-Identifier: Apache-2.0 */
/* test_server_tls.c - certificates that change while they are being read. */
#include <fcntl.h>
#include <gnutls/abstract.h>
#include <gnutls/x509.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "rerank.h"
#include "server/tls.h"

static char folder[] = "/tmp/test_tls_XXXXXX";

static char fresh[64], cert[64], private_key[64]; /* paths in it */

static void make_folder(void)
{
    assert_non_null(mkdtemp(folder));
    snprintf(fresh, sizeof(fresh), "%s/new", folder);
    snprintf(cert, sizeof(cert), "%s/cert", folder);
    snprintf(private_key, sizeof(private_key), "%s/key", folder);
}

static void put(int fd, const gnutls_datum_t *text)
{
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text->data, text->size), text->size);
    assert_int_equal(close(fd), 0);
}

static void put_file(const char *path, const gnutls_datum_t *text)
{
    put(open(fresh, O_WRONLY | O_CREAT | O_TRUNC, 0600), text);
    assert_int_equal(rename(fresh, path), 0);
}

static void make_certificate(gnutls_x509_privkey_t key, unsigned char serial, gnutls_datum_t *pem)
{
    gnutls_x509_crt_t crt;

    assert_int_equal(gnutls_x509_crt_init(&crt), 0);
    assert_int_equal(gnutls_x509_crt_set_version(crt, 3), 0);
    assert_int_equal(gnutls_x509_crt_set_serial(crt, &serial, 1), 0);
    assert_int_equal(gnutls_x509_crt_set_activation_time(crt, time(NULL) - 60), 0);
    assert_int_equal(gnutls_x509_crt_set_expiration_time(crt, time(NULL) + 3600), 0);
    assert_int_equal(gnutls_x509_crt_set_key(crt, key), 0);
    assert_int_equal(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0), 0);
    assert_int_equal(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, pem), 0);
    gnutls_x509_crt_deinit(crt);
}

/* The serial number of the certificate that a handshake gets now. */
static unsigned served(void)
{
    gnutls_certificate_retrieve_function3 *ask =
        (gnutls_certificate_retrieve_function3 *)rr_tls_callback;
    gnutls_pcert_st *certs = NULL;
    gnutls_ocsp_data_st *ocsp;
    gnutls_privkey_t key;
    gnutls_x509_crt_t crt;
    unsigned n = 0, n_ocsp, flags, i;
    unsigned char serial[64];
    size_t len = sizeof(serial);

    assert_int_equal(ask(NULL, NULL, &certs, &n, &ocsp, &n_ocsp, &key, &flags), 0);
    assert_int_equal(gnutls_pcert_export_x509(&certs[0], &crt), 0);
    assert_int_equal(gnutls_x509_crt_get_serial(crt, serial, &len), 0);
    gnutls_x509_crt_deinit(crt);
    gnutls_privkey_deinit(key);
    for (i = 0; i < n; i++) gnutls_pcert_deinit(&certs[i]);
    gnutls_free(certs);
    return serial[len - 1];
}

static void *signalled(void *arg)
{
    struct rr_error err = { 0 };

    (void)arg;
    return (void *)(intptr_t)rr_tls_reload(&err);
}

static void *looked_after(void *arg)
{
    struct rr_error err = { 0 };

    (void)arg;
    return (void *)(intptr_t)(rr_tls_poll(&err) ? err.code : -1);
}

/* A SIGHUP that is slow to read an older certificate must not put it over a newer one. */
static void test_the_last_one_stays(void **state)
{
    gnutls_x509_privkey_t key;
    gnutls_datum_t key_pem, first, second;
    const struct rr_tls_config config = { cert, private_key, "" };
    struct rr_error err = { 0 };
    struct timespec until;
    pthread_t hangup, tick;
    void *rc;
    int pipe;
    bool ticked;

    (void)state;
    make_folder();
    assert_int_equal(gnutls_x509_privkey_init(&key), 0);
    assert_int_equal(gnutls_x509_privkey_generate(
                         key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
                     0);
    assert_int_equal(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &key_pem), 0);
    make_certificate(key, 1, &first);
    make_certificate(key, 2, &second);
    put_file(cert, &first);
    put_file(private_key, &key_pem);
    assert_int_equal(rr_tls_open(&config, &err), RR_OK);
    assert_int_equal(served(), 1);

    assert_int_equal(mkfifo(fresh, 0600), 0);
    assert_int_equal(rename(fresh, cert), 0);
    assert_int_equal(pthread_create(&hangup, NULL, signalled, NULL), 0);
    pipe = open(cert, O_WRONLY); /* returns when it is being read */
    put_file(cert, &second);
    assert_int_equal(pthread_create(&tick, NULL, looked_after, NULL), 0);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 200000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    ticked = pthread_timedjoin_np(tick, &rc, &until) == 0;
    put(pipe, &first);
    assert_int_equal(pthread_join(hangup, &rc), 0);
    assert_int_equal((intptr_t)rc, RR_OK);
    if (!ticked) assert_int_equal(pthread_join(tick, &rc), 0);
    assert_int_equal((intptr_t)rc, RR_OK);
    (void)rr_tls_poll(&err); /* a second later */
    assert_int_equal(served(), 2);

    rr_tls_close();
    gnutls_free(first.data);
    gnutls_free(second.data);
    gnutls_free(key_pem.data);
    gnutls_x509_privkey_deinit(key);
    assert_int_equal(unlink(cert), 0);
    assert_int_equal(unlink(private_key), 0);
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_the_last_one_stays) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
