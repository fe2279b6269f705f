// Many threads on one model, messages per thread, and a model that is freed while it is in use.
#include "fixture.h"
#include "harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 6 };

static const struct {
    const char *question, *expected;
} QUESTIONS[] = {
    {"What is the capital of France?", "Paris"},
    {"What is the capital of Japan?", "Tokyo"},
    {"What is the opposite of hot?", "cold"},
};
enum { QUESTION_COUNT = sizeof QUESTIONS / sizeof *QUESTIONS };

typedef struct worker {
    pthread_t thread;
    int number;
    mlxrt_model *model;
    mlxrt_status status;
    mlxrt_generate_result result;
    atomic_int *started;
} worker;

// Runs a function on THREADS threads and waits for them.
static void run_threads(worker workers[THREADS], void *(*function)(void *)) {
    int count = 0;
    for (; count < THREADS; count++) {
        workers[count].number = count;
        if (!CHECK(pthread_create(&workers[count].thread, NULL, function, &workers[count]) == 0)) {
            break;
        }
    }
    while (count > 0) {
        pthread_join(workers[--count].thread, NULL);
    }
}

static void *ask_each(void *data) {
    worker *self = data;
    for (int i = 0; i < (short_run() ? 1 : QUESTION_COUNT); i++) {
        int which = (i + self->number) % QUESTION_COUNT;
        answer *out = calloc(1, sizeof *out);
        if (CHECK(out != NULL) && CHECK_OK(ask(shared_model(), QUESTIONS[which].question, NULL, out, NULL))) {
            CHECK_CONTAINS(out->text, QUESTIONS[which].expected);
            CHECK_INT(out->broken, 0);
        }
        free(out);
    }
    return NULL;
}

TEST(every_thread_gets_its_own_answers) {
    worker workers[THREADS] = {0};
    shared_model();
    run_threads(workers, ask_each);
}

static void *load_and_ask(void *data) {
    worker *self = data;
    mlxrt_model *model = NULL;
    answer *out = calloc(1, sizeof *out);
    int which = self->number % QUESTION_COUNT;
    if (CHECK(out != NULL) && CHECK_OK(load(model_folder(), &model)) &&
        CHECK_OK(ask(model, QUESTIONS[which].question, NULL, out, NULL))) {
        CHECK_CONTAINS(out->text, QUESTIONS[which].expected);
    }
    mlxrt_model_free(model);
    free(out);
    return NULL;
}

TEST(every_thread_loads_a_model_of_its_own) {
    worker workers[THREADS] = {0};
    run_threads(workers, load_and_ask);
}

static void *fail_and_read(void *data) {
    worker *self = data;
    char path[32] = "/nowhere/";
    path[9] = (char)('a' + self->number);
    for (int i = 0; i < 50; i++) {
        mlxrt_model *model = NULL;
        CHECK_FAILS(load(path, &model), NOT_FOUND, path);
    }
    return NULL;
}

TEST(messages_belong_to_threads) {
    worker workers[THREADS] = {0};
    run_threads(workers, fail_and_read);
}

static int32_t count_and_wait(void *user_data, const mlxrt_token *token) {
    worker *self = user_data;
    (void)token;
    if (self->started != NULL) {
        ++*self->started;
        self->started = NULL;
    }
    sleep_ms(2); // so that the answer does not end before the model is freed
    return 0;
}

static void *generate_for_long(void *data) {
    worker *self = data;
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 900, .ignore_end = 1};
    self->result.struct_size = sizeof self->result;
    self->status =
        mlxrt_model_generate(self->model, "Hello", 5, &options, count_and_wait, self, &self->result);
    return NULL;
}

TEST(freeing_ends_the_calls_that_are_under_way) {
    worker workers[THREADS] = {0};
    atomic_int started = 0;
    mlxrt_model *model = NULL;
    mlxrt_model_desc desc = {.struct_size = sizeof desc};
    REQUIRE_OK(load(model_folder(), &model));
    int count = 0;
    for (; count < THREADS; count++) {
        workers[count].model = model;
        workers[count].started = &started;
        if (!CHECK(pthread_create(&workers[count].thread, NULL, generate_for_long, &workers[count]) == 0)) {
            break;
        }
    }
    while (started < count) {
        sleep_ms(1);
    }
    mlxrt_model_free(model);
    CHECK_STATUS(mlxrt_model_info(model, &desc), BAD_ARGUMENT);
    while (count > 0) {
        worker *self = &workers[--count];
        pthread_join(self->thread, NULL);
        CHECK_INT(self->status, MLXRT_STATUS_CLOSED);
        CHECK_INT(self->result.finish, MLXRT_FINISH_NONE);
        CHECK(self->result.generated_tokens >= 1 && self->result.generated_tokens < 900);
    }
}

static int32_t ask_in_callback(void *user_data, const mlxrt_token *token) {
    worker *self = user_data;
    (void)token;
    if (self->number++ == 0) {
        answer *out = calloc(1, sizeof *out);
        if (CHECK(out != NULL) && CHECK_OK(ask(self->model, QUESTIONS[0].question, NULL, out, NULL))) {
            CHECK_CONTAINS(out->text, QUESTIONS[0].expected);
        }
        free(out);
    }
    return 0;
}

TEST(a_callback_may_generate_on_the_same_model) {
    worker self = {.model = shared_model()};
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 5, .ignore_end = 1};
    CHECK_OK(mlxrt_model_generate(self.model, "Hello", 5, &options, ask_in_callback, &self, NULL));
    CHECK_INT(self.number, 5);
}

int main(void) {
    RUN(every_thread_gets_its_own_answers);
    RUN(every_thread_loads_a_model_of_its_own);
    RUN(messages_belong_to_threads);
    RUN(freeing_ends_the_calls_that_are_under_way);
    RUN(a_callback_may_generate_on_the_same_model);
    return end_of_tests();
}
