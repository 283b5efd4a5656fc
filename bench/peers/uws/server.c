// uWebSockets through the C interface that PyPI's `socketify` carries: its echo server, and its pub/sub. No Python runs.
// The declarations are those of the package's native.py; options are left at what its documentation shows.
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct us_socket_context_options_t {
    const char *key_file_name, *cert_file_name, *passphrase, *dh_params_file_name, *ca_file_name, *ssl_ciphers;
    int ssl_prefer_low_memory_usage;
};
struct us_listen_socket_t;
typedef struct uws_app_s uws_app_t;
typedef struct uws_req_s uws_req_t;
typedef struct uws_res_s uws_res_t;
typedef struct uws_socket_context_s uws_socket_context_t;
typedef struct uws_websocket_s uws_websocket_t;
typedef struct { int port; const char *host; int options; } uws_app_listen_config_t;
typedef struct {
    int compression;
    unsigned int max_payload_length;
    unsigned short idle_timeout;
    unsigned int max_backpressure;
    bool close_on_backpressure_limit, reset_idle_timeout_on_send, send_pings_automatically;
    unsigned short max_lifetime;
    void (*upgrade)(uws_res_t *, uws_req_t *, uws_socket_context_t *, void *);
    void (*open)(uws_websocket_t *, void *);
    void (*message)(uws_websocket_t *, const char *, size_t, int, void *);
    void (*drain)(uws_websocket_t *, void *);
    void (*ping)(uws_websocket_t *, const char *, size_t, void *);
    void (*pong)(uws_websocket_t *, const char *, size_t, void *);
    void (*close)(uws_websocket_t *, int, const char *, size_t, void *);
    void (*subscription)(uws_websocket_t *, const char *, size_t, int, int, void *);
} uws_socket_behavior_t;
enum { SHARED_COMPRESSOR = 1, SHARED_DECOMPRESSOR = 1 << 8, DEDICATED_COMPRESSOR = 15 << 4 | 8, DEDICATED_DECOMPRESSOR = 15 << 8 };

void *socketify_create_loop(void);
void *socketify_get_native_loop(void *loop);
int socketify_loop_run(void *loop, int mode);
void *uws_get_loop_with_native(void *native);
uws_app_t *uws_create_app(int ssl, struct us_socket_context_options_t options);
void uws_ws(int ssl, uws_app_t *app, const char *pattern, uws_socket_behavior_t behavior, void *user_data);
void uws_app_listen_with_config(int ssl, uws_app_t *app, uws_app_listen_config_t config,
                                void (*handler)(struct us_listen_socket_t *, uws_app_listen_config_t, void *), void *user_data);
int us_socket_local_port(int ssl, struct us_listen_socket_t *socket);
int uws_ws_send_with_options(int ssl, uws_websocket_t *ws, const char *message, size_t length, int opcode, bool compress, bool fin);
bool uws_ws_subscribe(int ssl, uws_websocket_t *ws, const char *topic, size_t length);
bool uws_publish(int ssl, uws_app_t *app, const char *topic, size_t topic_length, const char *message, size_t length, int opcode, bool compress);

static bool compress;

static void echo(uws_websocket_t *ws, const char *message, size_t length, int opcode, void *user_data) {
    (void)user_data;
    uws_ws_send_with_options(0, ws, message, length, opcode, compress, true);
}

static void joined(uws_websocket_t *ws, void *user_data) {
    (void)user_data;
    uws_ws_subscribe(0, ws, "fan", 3);
}

static void fan(uws_websocket_t *ws, const char *message, size_t length, int opcode, void *user_data) {
    (void)ws;
    uws_publish(0, user_data, "fan", 3, message, length, opcode, compress);
}

static void listening(struct us_listen_socket_t *socket, uws_app_listen_config_t config, void *user_data) {
    (void)config;
    (void)user_data;
    if (!socket) {
        fprintf(stderr, "cannot listen\n");
        exit(1);
    }
    printf("listening on http://127.0.0.1:%d\n", us_socket_local_port(0, socket));
    fflush(stdout);
}

int main(int argc, char **argv) {
    int compression = 0, port = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--compress")) {
            compress = true;
            compression = strcmp(argv[i + 1], "takeover") ? SHARED_COMPRESSOR | SHARED_DECOMPRESSOR : DEDICATED_COMPRESSOR | DEDICATED_DECOMPRESSOR;
        } else if (!strcmp(argv[i], "--addr")) {
            const char *colon = strrchr(argv[i + 1], ':');
            port = colon ? atoi(colon + 1) : 0;
        }
    }
    void *loop = socketify_create_loop();
    uws_get_loop_with_native(socketify_get_native_loop(loop));
    uws_app_t *app = uws_create_app(0, (struct us_socket_context_options_t){0});
    uws_socket_behavior_t behavior = {
        .compression = compression,
        .max_payload_length = 64 << 20,
        .idle_timeout = 120,
        .max_backpressure = 64 << 20,
        .reset_idle_timeout_on_send = true,
        .send_pings_automatically = true,
        .message = echo,
    };
    uws_ws(0, app, "/echo", behavior, app);
    behavior.open = joined;
    behavior.message = fan;
    uws_ws(0, app, "/fan", behavior, app);
    uws_app_listen_with_config(0, app, (uws_app_listen_config_t){.port = port, .host = "127.0.0.1"}, listening, NULL);
    return socketify_loop_run(loop, 0);
}
