/* SPDX-License-Identifier: Apache-2.0 */
/* tls.c - see tls.h.
 * Each handshake gets its own copy of the certificate, so that a reload waits for nobody. */
#include "server/tls.h"

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "server/stamp.h"

#define MAX_FILE ((size_t)1 << 20)
#define MAX_CHAIN 16

const char rr_tls_priorities[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SAFE_RENEGOTIATION";

enum file { CERT, KEY, CLIENT_CA, FILES };

struct loaded { /* the content of the files */
    gnutls_datum_t cert, key;
    gnutls_x509_trust_list_t trust; /* NULL: clients need no certificate */
};

static struct {
    pthread_mutex_t turn;  /* guards stamps: a signal and a changed file may come at once */
    pthread_rwlock_t lock; /* guards now */
    struct loaded now;
    char *paths[FILES]; /* [CLIENT_CA] may be "" */
    struct rr_stamp stamps[FILES];
} tls = { .turn = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_RWLOCK_INITIALIZER };

/* ---- loading ------------------------------------------------------------------------------ */

static void drop(struct loaded *l)
{
    if (l->key.data) explicit_bzero(l->key.data, l->key.size);
    rr_free(l->cert.data);
    rr_free(l->key.data);
    if (l->trust) gnutls_x509_trust_list_deinit(l->trust, 1);
    memset(l, 0, sizeof(*l));
}

static int read_pem(gnutls_datum_t *out, const char *setting, const char *path,
                    struct rr_error *err)
{
    char *data;
    size_t len;
    int rc = rr_file_read(&data, &len, path, MAX_FILE, RR_MEM_SERVER, err);

    if (rc) return rr_fail_prefix(err, "%s", setting), rc;
    out->data = (unsigned char *)data;
    out->size = (unsigned)len;
    return RR_OK;
}

/* A copy for one handshake, or for the check that certificate and key belong together. */
static int copy_pair(const struct loaded *l, gnutls_pcert_st **certs, unsigned *n,
                     gnutls_privkey_t *key)
{
    gnutls_pcert_st *list = gnutls_calloc(MAX_CHAIN, sizeof(*list));
    unsigned count = MAX_CHAIN, i;
    int rc;

    if (!list) return GNUTLS_E_MEMORY_ERROR;
    rc = gnutls_pcert_list_import_x509_raw(list, &count, &l->cert, GNUTLS_X509_FMT_PEM, 0);
    if (rc < 0) {
        gnutls_free(list);
        return rc;
    }
    rc = gnutls_privkey_init(key);
    if (rc == 0) {
        rc = gnutls_privkey_import_x509_raw(*key, &l->key, GNUTLS_X509_FMT_PEM, NULL, 0);
        if (rc < 0) gnutls_privkey_deinit(*key);
    }
    if (rc < 0) {
        for (i = 0; i < count; i++) gnutls_pcert_deinit(&list[i]);
        gnutls_free(list);
        return rc;
    }
    *certs = list;
    *n = count;
    return 0;
}

/* Signs something with the key and checks it with the certificate. */
static int check_pair(const struct loaded *l, struct rr_error *err)
{
    gnutls_datum_t text = { (unsigned char *)(uintptr_t) "rerankd", 7 }, signature = { NULL, 0 };
    gnutls_pcert_st *certs;
    gnutls_privkey_t key;
    unsigned n, i;
    int rc = copy_pair(l, &certs, &n, &key);

    if (rc < 0)
        return rr_fail(err, RR_EFORMAT,
                       "%s or %s: %s Expected a chain of certificates in PEM for tls-cert, the "
                       "server's own first, and its private key in PEM for tls-key",
                       tls.paths[CERT], tls.paths[KEY], gnutls_strerror(rc));
    rc = gnutls_privkey_sign_data(key, GNUTLS_DIG_SHA256, 0, &text, &signature);
    if (rc == 0) {
        gnutls_sign_algorithm_t how = gnutls_pk_to_sign(
            (gnutls_pk_algorithm_t)gnutls_pubkey_get_pk_algorithm(certs[0].pubkey, NULL),
            GNUTLS_DIG_SHA256);

        rc = gnutls_pubkey_verify_data2(certs[0].pubkey, how, 0, &text, &signature);
        gnutls_free(signature.data);
    }
    for (i = 0; i < n; i++) gnutls_pcert_deinit(&certs[i]);
    gnutls_free(certs);
    gnutls_privkey_deinit(key);
    if (rc < 0)
        return rr_fail(err, RR_EFORMAT,
                       "tls-key %s does not belong to tls-cert %s: expected the private key of the "
                       "first certificate in that file",
                       tls.paths[KEY], tls.paths[CERT]);
    return RR_OK;
}

static int load_trust(struct loaded *l, struct rr_error *err)
{
    const char *path = tls.paths[CLIENT_CA];
    gnutls_datum_t pem = { NULL, 0 };
    int rc, n;

    if (!*path) return RR_OK;
    rc = read_pem(&pem, "tls-client-ca", path, err);
    if (rc) return rc;
    n = gnutls_x509_trust_list_init(&l->trust, 0);
    if (n < 0) l->trust = NULL;
    if (n >= 0)
        n = gnutls_x509_trust_list_add_trust_mem(l->trust, &pem, NULL, GNUTLS_X509_FMT_PEM, 0, 0);
    rr_free(pem.data);
    if (n < 0) return rr_fail(err, RR_EFORMAT, "%s: %s", path, gnutls_strerror(n));
    if (n == 0) return rr_fail(err, RR_EFORMAT, "%s: found no certificate", path);
    return RR_OK;
}

static int load(struct loaded *l, struct rr_error *err)
{
    int rc = read_pem(&l->cert, "tls-cert", tls.paths[CERT], err);

    if (!rc) rc = read_pem(&l->key, "tls-key", tls.paths[KEY], err);
    if (!rc) rc = check_pair(l, err);
    if (!rc) rc = load_trust(l, err);
    if (rc) drop(l);
    return rc;
}

/* ---- handshakes --------------------------------------------------------------------------- */

static int verify_client(gnutls_session_t session)
{
    gnutls_x509_crt_t *chain;
    const gnutls_datum_t *raw;
    gnutls_typed_vdata_st purpose = { GNUTLS_DT_KEY_PURPOSE_OID,
                                      (unsigned char *)(uintptr_t)GNUTLS_KP_TLS_WWW_CLIENT, 0 };
    unsigned n = 0, i, status = GNUTLS_CERT_INVALID;

    raw = gnutls_certificate_get_peers(session, &n);
    if (!raw || n == 0 || n > MAX_CHAIN) return GNUTLS_E_CERTIFICATE_ERROR;
    chain = gnutls_calloc(n, sizeof(gnutls_x509_crt_t));
    if (!chain) return GNUTLS_E_MEMORY_ERROR;
    for (i = 0; i < n; i++) {
        if (gnutls_x509_crt_init(&chain[i]) < 0) break;
        if (gnutls_x509_crt_import(chain[i], &raw[i], GNUTLS_X509_FMT_DER) < 0) {
            gnutls_x509_crt_deinit(chain[i]);
            break;
        }
    }
    if (i == n) {
        pthread_rwlock_rdlock(&tls.lock);
        if (!tls.now.trust || gnutls_x509_trust_list_verify_crt2(tls.now.trust, chain, n, &purpose,
                                                                 1, 0, &status, NULL) < 0)
            status = GNUTLS_CERT_INVALID;
        pthread_rwlock_unlock(&tls.lock);
    }
    n = i;
    for (i = 0; i < n; i++) gnutls_x509_crt_deinit(chain[i]);
    gnutls_free(chain);
    return status == 0 ? 0 : GNUTLS_E_CERTIFICATE_ERROR;
}

static int retrieve(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
                    gnutls_pcert_st **certs, unsigned *n, gnutls_ocsp_data_st **ocsp,
                    unsigned *n_ocsp, gnutls_privkey_t *key, unsigned *flags)
{
    int rc;

    (void)info;
    *ocsp = NULL;
    *n_ocsp = 0;
    *flags = GNUTLS_CERT_RETR_DEINIT_ALL;
    pthread_rwlock_rdlock(&tls.lock);
    rc = tls.now.cert.data ? copy_pair(&tls.now, certs, n, key) : GNUTLS_E_INTERNAL_ERROR;
    if (rc == 0 && tls.now.trust) {
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
        gnutls_session_set_verify_function(session, verify_client);
    }
    pthread_rwlock_unlock(&tls.lock);
    return rc < 0 ? -1 : 0;
}

void (*const rr_tls_callback)(void) = (void (*)(void))retrieve;

/* ---- interface ---------------------------------------------------------------------------- */

/* tls.turn is held. */
static int reload(struct rr_error *err)
{
    struct loaded fresh = { { NULL, 0 }, { NULL, 0 }, NULL }, old;
    int rc, i;

    for (i = 0; i < FILES; i++) (void)rr_stamp_take(&tls.stamps[i], tls.paths[i]);
    rc = load(&fresh, err);
    if (rc) return rc;
    pthread_rwlock_wrlock(&tls.lock);
    old = tls.now;
    tls.now = fresh;
    pthread_rwlock_unlock(&tls.lock);
    drop(&old);
    return RR_OK;
}

int rr_tls_reload(struct rr_error *err)
{
    int rc;

    pthread_mutex_lock(&tls.turn);
    rc = reload(err);
    pthread_mutex_unlock(&tls.turn);
    return rc;
}

bool rr_tls_poll(struct rr_error *err)
{
    struct rr_stamp stamps[FILES];
    bool changed = false;
    int i;

    if (!tls.paths[CERT]) return false;
    pthread_mutex_lock(&tls.turn);
    memcpy(stamps, tls.stamps, sizeof(stamps));
    for (i = 0; i < FILES; i++) changed |= rr_stamp_take(&stamps[i], tls.paths[i]);
    if (changed) {
        *err = (struct rr_error){ 0 };
        err->code = reload(err);
    }
    pthread_mutex_unlock(&tls.turn);
    return changed;
}

int rr_tls_open(const struct rr_tls_config *config, struct rr_error *err)
{
    const char *const paths[FILES] = { config->cert, config->key, config->client_ca };
    int i, rc;

    for (i = 0; i < FILES; i++) {
        tls.paths[i] = rr_strdup(RR_MEM_SERVER, paths[i]);
        if (!tls.paths[i]) return rr_fail(err, RR_ENOMEM, "tls: out of memory");
    }
    if (!*config->key)
        return rr_fail(err, RR_EFORMAT, "tls-cert is given without tls-key: both are needed");
    rc = rr_tls_reload(err);
    return rc;
}

void rr_tls_close(void)
{
    int i;

    drop(&tls.now);
    for (i = 0; i < FILES; i++) {
        rr_free(tls.paths[i]);
        tls.paths[i] = NULL;
        memset(&tls.stamps[i], 0, sizeof(tls.stamps[i]));
    }
}
