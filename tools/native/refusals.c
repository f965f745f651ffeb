/* Calls of libtiller that must be refused, and what must still work afterwards: refusals MODEL CONTROLLER. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tiller.h"

static int failures;

/* The status is as expected, and an error has a text that says what it is about. */
static void expect_at(int line, tiller_status want, tiller_status got, const char *says) {
    const char *error = tiller_last_error();
    if (want != got || (want != TILLER_OK && strstr(error, says) == NULL)) {
        fprintf(stderr, "line %d: status %d, expected %d; error '%s', expected '%s'\n", line, (int)got, (int)want, error, says);
        failures++;
    }
}

#define REFUSED(status, call, says) expect_at(__LINE__, status, call, says)
#define OK(call) expect_at(__LINE__, TILLER_OK, call, "")

static int32_t stop(void *user, int32_t id, const char *text, size_t length) {
    (void)id;
    (void)text;
    (void)length;
    return ++*(int *)user == 3;
}

/* A callback that steps its session, and frees it: both are a mistake of the caller's, and neither may crash. */
static int32_t meddle(void *user, int32_t id, const char *text, size_t length) {
    (void)id;
    (void)text;
    (void)length;
    int32_t stepped = 0;
    tiller_status status = tiller_session_step(*(tiller_session *)user, &stepped);
    tiller_session_free(*(tiller_session *)user);
    return status == TILLER_OK; /* a step that was not refused ends the stream too early */
}

static void *fail_elsewhere(void *unused) {
    (void)unused;
    if (strcmp(tiller_last_error(), "") != 0) {
        return "another thread's error is seen";
    }
    tiller_model model;
    return tiller_model_load("elsewhere", "cpu", 1, &model) == TILLER_OK ? "loaded nothing" : NULL;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        return 2;
    }

    tiller_model model = NULL, none = NULL;
    REFUSED(TILLER_ERROR_INPUT, tiller_model_load("no/such/folder", "cpu", 1, &none), "no/such/folder");
    REFUSED(TILLER_ERROR_ARGUMENT, tiller_model_load(argv[1], "gpu", 1, &none), "gpu");
    REFUSED(TILLER_ERROR_ARGUMENT, tiller_model_load(argv[1], "cpu", -1, &none), "threads");
    REFUSED(TILLER_ERROR_ARGUMENT, tiller_model_load(NULL, "cpu", 1, &none), "path");
    REFUSED(TILLER_ERROR_ARGUMENT, tiller_model_load("\xff", "cpu", 1, &none), "UTF-8");
    REFUSED(TILLER_ERROR_ARGUMENT, tiller_model_load(argv[1], "cpu", 1, NULL), "model");
    if (none != NULL) {
        fprintf(stderr, "a failed call wrote its result\n");
        failures++;
    }
    OK(tiller_model_load(argv[1], "cpu", 1, &model));

    int32_t vocabulary = 0, context = 0;
    OK(tiller_model_shape(model, NULL, NULL, &vocabulary, &context));
    REFUSED(TILLER_ERROR_ARGUMENT, tiller_model_shape(NULL, NULL, NULL, NULL, NULL), "NULL");
    REFUSED(TILLER_ERROR_ARGUMENT, tiller_model_shape((tiller_model)"x", NULL, NULL, NULL, NULL), "not a handle");

    int32_t ids[64];
    size_t count = 0;
    REFUSED(TILLER_ERROR_BUFFER, tiller_tokenize(model, "Once upon a time", NULL, 0, &count), "room for 0");
    size_t needed = count;
    OK(tiller_tokenize(model, "Once upon a time", ids, 64, &count));
    if (count == 0 || count != needed) {
        fprintf(stderr, "asked for %zu ids, got %zu\n", needed, count);
        failures++;
    }
    REFUSED(TILLER_ERROR_ARGUMENT, tiller_tokenize(model, "a\xc0\x80", ids, 64, &count), "UTF-8");
    REFUSED(TILLER_ERROR_ARGUMENT, tiller_tokenize(model, "a", ids, 64, NULL), "count");
    const char *role = "user", *content = "Hi";
    REFUSED(TILLER_ERROR_INPUT, tiller_chat_tokenize(model, &role, &content, 1, ids, 64, &count), "template");

    char text[8];
    size_t length;
    REFUSED(TILLER_ERROR_BUFFER, tiller_detokenize(model, ids, needed, text, 3, &length), "room for 3");

    tiller_controller controller, broken;
    OK(tiller_controller_load(argv[2], &controller));
    REFUSED(TILLER_ERROR_INPUT, tiller_controller_load("no.tiller", &broken), "no.tiller");

    tiller_sampling sampling;
    tiller_sampling_default(&sampling);
    sampling.top_p = NAN;
    tiller_session session, bad;
    REFUSED(TILLER_ERROR_ARGUMENT, tiller_session_create(model, &sampling, &bad), "TopP");
    REFUSED(TILLER_ERROR_ARGUMENT, tiller_session_create((tiller_model)controller, NULL, &bad), "another type");
    OK(tiller_session_create(model, NULL, &session));

    int32_t id;
    REFUSED(TILLER_ERROR_STATE, tiller_session_step(session, &id), "");
    int32_t outside[1] = {vocabulary};
    REFUSED(TILLER_ERROR_ARGUMENT, tiller_session_append(session, outside, 1), "ids[0]");
    REFUSED(TILLER_ERROR_ARGUMENT, tiller_session_append(session, NULL, 1), "NULL");
    tiller_use use = {controller, NAN};
    REFUSED(TILLER_ERROR_ARGUMENT, tiller_session_steer(session, &use, 1, INFINITY), "");
    use.lambda = 1;
    REFUSED(TILLER_ERROR_ARGUMENT, tiller_session_steer(session, &use, 1, -1), "");
    use.controller = NULL;
    REFUSED(TILLER_ERROR_ARGUMENT, tiller_session_steer(session, &use, 1, INFINITY), "uses[0].controller");

    /* After all that the session still works. */
    use.controller = controller;
    OK(tiller_session_steer(session, &use, 1, INFINITY));
    OK(tiller_session_append(session, ids, needed));
    OK(tiller_session_step(session, &id));
    const char *piece;
    OK(tiller_session_piece(session, &piece, &length));
    if (strlen(piece) != length) {
        fprintf(stderr, "a piece has %zu bytes and says %zu\n", strlen(piece), length);
        failures++;
    }
    int calls = 0;
    int32_t reason = -1;
    OK(tiller_session_stream(session, 100, stop, &calls, &reason));
    if (calls != 3 || reason != TILLER_STOP_CALLBACK) {
        fprintf(stderr, "%d calls, reason %d\n", calls, (int)reason);
        failures++;
    }
    REFUSED(TILLER_ERROR_ARGUMENT, tiller_session_stream(session, 0, stop, &calls, &reason), "max_tokens");
    REFUSED(TILLER_ERROR_ARGUMENT, tiller_session_stream(session, 1, NULL, &calls, &reason), "on_token");

    /* One session twice in a batch; one that has no prompt. */
    tiller_batch batch;
    OK(tiller_batch_create(model, &batch));
    OK(tiller_session_create(model, NULL, &bad));
    tiller_session rows[2] = {session, session};
    int32_t drawn[2];
    tiller_status twice = tiller_batch_step(batch, rows, 2, drawn);
    expect_at(__LINE__, twice == TILLER_OK ? TILLER_ERROR_ARGUMENT : twice, twice, "");
    rows[1] = bad;
    tiller_status empty = tiller_batch_step(batch, rows, 2, drawn);
    expect_at(__LINE__, empty == TILLER_OK ? TILLER_ERROR_STATE : empty, empty, "");
    OK(tiller_batch_step(batch, rows, 1, drawn));

    /* A thread has its own errors. */
    pthread_t thread;
    void *problem = NULL;
    pthread_create(&thread, NULL, fail_elsewhere, NULL);
    pthread_join(thread, &problem);
    if (problem != NULL || strstr(tiller_last_error(), "elsewhere") != NULL) {
        fprintf(stderr, "%s\n", problem != NULL ? (char *)problem : "an error went to another thread");
        failures++;
    }

    /* Freed in the wrong order, twice, in the middle of a stream, or as something else. */
    tiller_session_free((tiller_session)batch);
    OK(tiller_batch_step(batch, rows, 1, drawn));
    REFUSED(TILLER_ERROR_ARGUMENT, tiller_session_stream(session, 100, meddle, &session, &reason), "");
    REFUSED(TILLER_ERROR_ARGUMENT, tiller_session_step(session, &id), "freed");
    tiller_session_free(session);
    tiller_model_free(model);
    tiller_model_free(model);
    tiller_model_free(NULL);
    REFUSED(TILLER_ERROR_ARGUMENT, tiller_session_append(bad, ids, needed), "");
    REFUSED(TILLER_ERROR_ARGUMENT, tiller_model_shape(model, NULL, NULL, NULL, NULL), "freed");
    tiller_session_free(bad);
    tiller_batch_free(batch);
    tiller_controller_free(controller);
    if (failures > 0) {
        fprintf(stderr, "%d calls were not refused as they must be\n", failures);
        return 1;
    }

    puts("libtiller: all that must be refused is");
    return 0;
}
