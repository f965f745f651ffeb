/* Steers a text: steer MODEL CONTROLLER LAMBDA PROMPT. lambda goes to zero half way, while the text streams. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tiller.h"

enum { TOKENS = 32 };

typedef struct {
    tiller_session session;
    int count;
} stream;

static void check(tiller_status status) {
    if (status != TILLER_OK) {
        fprintf(stderr, "error %d: %s\n", (int)status, tiller_last_error());
        exit(1);
    }
}

static int32_t on_token(void *user, int32_t id, const char *text, size_t length) {
    stream *s = user;
    (void)id;
    fwrite(text, 1, length, stdout);
    if (++s->count == TOKENS / 2) {
        double error, effort;
        check(tiller_session_readings(s->session, &error, &effort));
        fprintf(stderr, "error %.3f, effort %.3f\n", error, effort);
        check(tiller_session_steer(s->session, NULL, 0, INFINITY));
        fputs(" |", stdout);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fputs("usage: steer MODEL CONTROLLER LAMBDA PROMPT\n", stderr);
        return 2;
    }

    tiller_model model;
    tiller_controller controller;
    tiller_session session, plain;
    tiller_batch batch;
    check(tiller_model_load(argv[1], "cpu", 0, &model));
    check(tiller_controller_load(argv[2], &controller));

    int32_t ids[256];
    size_t count;
    check(tiller_tokenize(model, argv[4], ids, sizeof ids / sizeof *ids, &count));

    /* One text, as it comes. */
    tiller_use use = {controller, atof(argv[3])};
    check(tiller_session_create(model, NULL, &session));
    check(tiller_session_steer(session, &use, 1, INFINITY));
    check(tiller_session_append(session, ids, count));
    stream s = {session, 0};
    int32_t reason;
    check(tiller_session_stream(session, TOKENS, on_token, &s, &reason));
    printf("\n");
    tiller_session_free(session);

    /* Plain and steered in one batch. */
    tiller_sampling sampling;
    tiller_sampling_default(&sampling);
    sampling.temperature = 0.7f;
    sampling.has_seed = 1;
    sampling.seed = 3;
    check(tiller_session_create(model, &sampling, &plain));
    check(tiller_session_create(model, &sampling, &session));
    check(tiller_session_steer(session, &use, 1, INFINITY));
    check(tiller_session_append(plain, ids, count));
    check(tiller_session_append(session, ids, count));
    check(tiller_batch_create(model, &batch));
    tiller_session rows[2] = {plain, session};
    int32_t drawn[2], texts[2][TOKENS];
    for (int i = 0; i < TOKENS; i++) {
        check(tiller_batch_step(batch, rows, 2, drawn));
        texts[0][i] = drawn[0];
        texts[1][i] = drawn[1];
    }

    for (int i = 0; i < 2; i++) {
        char text[4096];
        size_t length;
        check(tiller_detokenize(model, texts[i], TOKENS, text, sizeof text, &length));
        printf("%s: %s\n", i ? "steered" : "plain", text);
    }

    tiller_batch_free(batch);
    tiller_session_free(plain);
    tiller_session_free(session);
    tiller_controller_free(controller);
    tiller_model_free(model);
    return 0;
}
