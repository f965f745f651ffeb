/* libtiller: language models with a feedback controller inside the forward pass. The long version is docs/native.md.
 *
 * Every function that can fail returns a tiller_status. If that is not TILLER_OK nothing was written to the results, but for what a function says
 * itself, and tiller_last_error() of the same thread says what was expected, what came and what to do. Nothing is thrown across this border.
 *
 * Texts are UTF-8 and end with a zero byte. Objects are handles: one that was freed, or never given out, is refused with
 * TILLER_ERROR_ARGUMENT. All functions may be called by any thread; a session or a batch takes one call at a time and refuses a second one with
 * TILLER_ERROR_STATE. Objects may be freed in any order and at any time: a step under way ends first. */
#ifndef TILLER_H
#define TILLER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tiller_model_handle *tiller_model;           /* a checkpoint; shared by its sessions */
typedef struct tiller_controller_handle *tiller_controller; /* a fitted way of steering; lambda is chosen when it is used */
typedef struct tiller_session_handle *tiller_session;       /* one text under way */
typedef struct tiller_batch_handle *tiller_batch;           /* steps many sessions of one model at once */

typedef enum tiller_status {
    TILLER_OK = 0,
    TILLER_ERROR_ARGUMENT = 1,  /* an argument, handle or setting is wrong */
    TILLER_ERROR_INPUT = 2,     /* a file, checkpoint, controller or text cannot be used */
    TILLER_ERROR_DEVICE = 3,    /* the device is not there, failed, or has too little memory */
    TILLER_ERROR_NUMERICAL = 4, /* states or logits are not finite: lambda is too large, it may be */
    TILLER_ERROR_CONTEXT = 5,   /* the model's context is full */
    TILLER_ERROR_STATE = 6,     /* not now: another thread is using the object, or it has no prompt yet */
    TILLER_ERROR_BUFFER = 7,    /* the buffer is too small; the size that it needs was written */
    TILLER_ERROR_INTERNAL = 8   /* a defect of the library */
} tiller_status;

/* What the last failed call of this thread was about; "" before the first. Valid until the thread's next failed call. */
const char *tiller_last_error(void);

/* ---- models ---- */

/* Loads a folder with config.json, tokenizer.json and safetensors, or OWNER/NAME of the Hugging Face cache.
 * device: auto, cpu, cuda or cuda:N; NULL as auto. threads: of the CPU; 0 for one per processor. */
tiller_status tiller_model_load(const char *path, const char *device, int32_t threads, tiller_model *model);
void tiller_model_free(tiller_model model);

/* Blocks, width, ids and positions; each may be NULL. */
tiller_status tiller_model_shape(tiller_model model, int32_t *layers, int32_t *width, int32_t *vocabulary, int32_t *context);

/* Ids of a text. count: how many there are, whether they fit or not; with capacity 0 ids may be NULL, to ask for it. */
tiller_status tiller_tokenize(tiller_model model, const char *text, int32_t *ids, size_t capacity, size_t *count);

/* Ids of a chat in the checkpoint's format, up to where the answer begins. */
tiller_status tiller_chat_tokenize(
    tiller_model model, const char *const *roles, const char *const *contents, size_t messages, int32_t *ids, size_t capacity, size_t *count);

/* Text of ids, with a zero byte behind it that length does not count and capacity does. */
tiller_status tiller_detokenize(tiller_model model, const int32_t *ids, size_t count, char *text, size_t capacity, size_t *length);

/* Whether an id ends texts of the model. */
tiller_status tiller_is_end(tiller_model model, int32_t id, int32_t *is_end);

/* ---- controllers ---- */

/* Loads a file that `tiller fit` wrote. */
tiller_status tiller_controller_load(const char *path, tiller_controller *controller);
void tiller_controller_free(tiller_controller controller);

/* ---- sessions ---- */

typedef struct tiller_sampling {
    float temperature;        /* 0: the most probable token */
    float top_p;              /* (0, 1]; 1: off */
    float min_p;              /* [0, 1]; 0: off */
    float repetition_penalty; /* [0.01, 100]; 1: off */
    float presence_penalty;   /* [-2, 2]; 0: off */
    float frequency_penalty;  /* [-2, 2]; 0: off */
    int32_t top_k;            /* 0: off */
    int32_t has_seed;         /* 0: a seed is drawn */
    uint64_t seed;
} tiller_sampling;

/* What is off by default is off, and temperature is 0. */
void tiller_sampling_default(tiller_sampling *sampling);

typedef struct tiller_use {
    tiller_controller controller;
    double lambda; /* 1: the distance between the two lists that it was fitted on */
} tiller_use;

/* A new text. sampling: NULL for the defaults. */
tiller_status tiller_session_create(tiller_model model, const tiller_sampling *sampling, tiller_session *session);
void tiller_session_free(tiller_session session);

/* Steers by the sum of these controllers from the next token that is run on; count 0 stops steering. Changing lambda is this call, also from
 * within a callback. max_effort: bound on |u| at every layer; 0 or INFINITY for none. */
tiller_status tiller_session_steer(tiller_session session, const tiller_use *uses, size_t count, float max_effort);

/* Goes on with these ids: the prompt, or the next turn of a chat. */
tiller_status tiller_session_append(tiller_session session, const int32_t *ids, size_t count);

/* Draws the next token. It is run, and steered, by the next call that needs it. */
tiller_status tiller_session_step(tiller_session session, int32_t *id);

/* Text that the last token added: empty while it is half a character. Valid until the next call with this session. */
tiller_status tiller_session_piece(tiller_session session, const char **text, size_t *length);

/* What the law read and did in the last pass: mean |beta - v.x| and mean |u|/|x|; zeros of a plain text. */
tiller_status tiller_session_readings(tiller_session session, double *error, double *effort);

typedef enum tiller_stop {
    TILLER_STOP_END = 0,        /* a token that ends texts; it was given to the callback, with the rest of the text */
    TILLER_STOP_MAX_TOKENS = 1, /* as many tokens as asked for */
    TILLER_STOP_CONTEXT = 2,    /* the context is full */
    TILLER_STOP_CALLBACK = 3    /* the callback said so */
} tiller_stop;

/* Called with every token and the text that it adds, length bytes and a zero byte. 0 goes on. It may steer the session and read it; other calls
 * with the session are refused. Half a character at max_tokens waits for the next call. */
typedef int32_t (*tiller_on_token)(void *user, int32_t id, const char *text, size_t length);

/* Draws tokens until one ends the text, there are max_tokens, or the callback stops. reason: why, one of tiller_stop; may be NULL. */
tiller_status tiller_session_stream(tiller_session session, int32_t max_tokens, tiller_on_token on_token, void *user, int32_t *reason);

/* ---- batches ---- */

tiller_status tiller_batch_create(tiller_model model, tiller_batch *batch);
void tiller_batch_free(tiller_batch batch);

/* As tiller_session_step of each session, in one pass over the weights. ids: count of them; -1 where the logits were not finite. */
tiller_status tiller_batch_step(tiller_batch batch, const tiller_session *sessions, size_t count, int32_t *ids);

#ifdef __cplusplus
}
#endif

#endif
