/* libtiller: language models with a feedback controller inside the forward pass. docs/native.md describes it in detail.
 *
 * Every function that can fail returns a tiller_status. If it is not TILLER_OK, no result has been written, unless the function's comment says
 * otherwise, and tiller_last_error() on the same thread says what was expected, what was found and what to do. No exception leaves the library.
 *
 * Texts are UTF-8 and end with a zero byte. Objects are handles. A handle that was freed, or that did not come from this library, is refused with
 * TILLER_ERROR_ARGUMENT. Any thread may call any function. A session or a batch takes one call at a time, and refuses a second one with
 * TILLER_ERROR_STATE. Objects may be freed in any order and at any time; a running step ends first. */
#ifndef TILLER_H
#define TILLER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tiller_model_handle *tiller_model;           /* a checkpoint; shared by its sessions */
typedef struct tiller_controller_handle *tiller_controller; /* a fitted controller; lambda is chosen when it is used */
typedef struct tiller_session_handle *tiller_session;       /* one text that is being decoded */
typedef struct tiller_batch_handle *tiller_batch;           /* steps several sessions of one model together */

typedef enum tiller_status {
    TILLER_OK = 0,
    TILLER_ERROR_ARGUMENT = 1,  /* an argument, handle or setting is wrong */
    TILLER_ERROR_INPUT = 2,     /* a file, checkpoint, controller or text cannot be used */
    TILLER_ERROR_DEVICE = 3,    /* the device is not available, failed, or has too little memory */
    TILLER_ERROR_NUMERICAL = 4, /* states or logits are not finite; lambda may be too large */
    TILLER_ERROR_CONTEXT = 5,   /* the model's context is full */
    TILLER_ERROR_STATE = 6,     /* another thread is using the object, or the session has no prompt yet */
    TILLER_ERROR_BUFFER = 7,    /* the buffer is too small; the necessary size has been written */
    TILLER_ERROR_INTERNAL = 8   /* a defect of the library */
} tiller_status;

/* The message of this thread's last failed call; "" if there was none. Valid until the thread's next failed call. */
const char *tiller_last_error(void);

/* ---- models ---- */

/* Loads a checkpoint: a folder with config.json, tokenizer.json and safetensors, or a model OWNER/NAME in the Hugging Face cache.
 * device: auto, cpu, cuda or cuda:N; NULL for TILLER_DEVICE or auto. threads: number of CPU threads; 0 for one per processor. */
tiller_status tiller_model_load(const char *path, const char *device, int32_t threads, tiller_model *model);
void tiller_model_free(tiller_model model);

/* The number of blocks, the width, the number of ids and the number of positions. Each pointer may be NULL. */
tiller_status tiller_model_shape(tiller_model model, int32_t *layers, int32_t *width, int32_t *vocabulary, int32_t *context);

/* The ids of a text. count is always set to their number, also if they do not fit. With capacity 0, ids may be NULL, to ask for the number. */
tiller_status tiller_tokenize(tiller_model model, const char *text, int32_t *ids, size_t capacity, size_t *count);

/* The ids of a chat in the checkpoint's format, up to the beginning of the answer. */
tiller_status tiller_chat_tokenize(
    tiller_model model, const char *const *roles, const char *const *contents, size_t messages, int32_t *ids, size_t capacity, size_t *count);

/* The text of ids, followed by a zero byte. capacity includes the zero byte; length does not, and is set even if the text does not fit. */
tiller_status tiller_detokenize(tiller_model model, const int32_t *ids, size_t count, char *text, size_t capacity, size_t *length);

/* Whether an id ends a text of the model. */
tiller_status tiller_is_end(tiller_model model, int32_t id, int32_t *is_end);

/* ---- controllers ---- */

/* Loads a controller file that `tiller fit` wrote. */
tiller_status tiller_controller_load(const char *path, tiller_controller *controller);
void tiller_controller_free(tiller_controller controller);

/* ---- sessions ---- */

typedef struct tiller_sampling {
    float temperature;        /* 0: always the most probable token */
    float top_p;              /* (0, 1]; 1: off */
    float min_p;              /* [0, 1]; 0: off */
    float repetition_penalty; /* [0.01, 100]; 1: off */
    float presence_penalty;   /* [-2, 2]; 0: off */
    float frequency_penalty;  /* [-2, 2]; 0: off */
    int32_t top_k;            /* 0: off */
    int32_t has_seed;         /* 0: the seed is random */
    uint64_t seed;
} tiller_sampling;

/* Sets the defaults: temperature 0, everything else off. */
void tiller_sampling_default(tiller_sampling *sampling);

typedef struct tiller_use {
    tiller_controller controller;
    double lambda; /* strength; 1 is the distance between the two lists of prompts of the fit */
} tiller_use;

/* Creates a session for a new text. sampling: NULL for the defaults. */
tiller_status tiller_session_create(tiller_model model, const tiller_sampling *sampling, tiller_session *session);
void tiller_session_free(tiller_session session);

/* Steers by the sum of these controllers, from the next token that is run on. count 0 ends steering. This call also changes lambda; a callback may
 * make it. max_effort: bound on |u| at every layer; 0 or INFINITY for none. */
tiller_status tiller_session_steer(tiller_session session, const tiller_use *uses, size_t count, float max_effort);

/* Appends ids: the prompt, or the next turn of a chat. */
tiller_status tiller_session_append(tiller_session session, const int32_t *ids, size_t count);

/* Draws the next token. The next call that needs it runs and steers it. */
tiller_status tiller_session_step(tiller_session session, int32_t *id);

/* The text that the last token added. It is empty if the token ends within a character. Valid until the next call with this session. */
tiller_status tiller_session_piece(tiller_session session, const char **text, size_t *length);

/* The controllers' mean tracking error |beta - v.x| and mean effort |u|/|x| in the last pass; both are 0 for a plain text. */
tiller_status tiller_session_readings(tiller_session session, double *error, double *effort);

typedef enum tiller_stop {
    TILLER_STOP_END = 0,        /* a token that ends texts; the callback got it, with the rest of the text */
    TILLER_STOP_MAX_TOKENS = 1, /* max_tokens tokens were drawn */
    TILLER_STOP_CONTEXT = 2,    /* the context is full */
    TILLER_STOP_CALLBACK = 3    /* the callback returned a value other than 0 */
} tiller_stop;

/* Called with every token and the text that it adds: length bytes, followed by a zero byte. A return value of 0 continues, any other value stops.
 * The callback may steer and read the session; other calls with the session are refused. If the last token ends within a character, the next call
 * returns the rest. */
typedef int32_t (*tiller_on_token)(void *user, int32_t id, const char *text, size_t length);

/* Draws tokens until one ends the text, max_tokens have been drawn, the context is full, or the callback stops. reason is set to a tiller_stop, and
 * may be NULL. */
tiller_status tiller_session_stream(tiller_session session, int32_t max_tokens, tiller_on_token on_token, void *user, int32_t *reason);

/* ---- batches ---- */

tiller_status tiller_batch_create(tiller_model model, tiller_batch *batch);
void tiller_batch_free(tiller_batch batch);

/* The same as tiller_session_step for each session, in one pass over the weights. ids has count entries. If the logits of some sessions are not
 * finite, their ids are -1, and the others are written all the same. */
tiller_status tiller_batch_step(tiller_batch batch, const tiller_session *sessions, size_t count, int32_t *ids);

#ifdef __cplusplus
}
#endif

#endif
