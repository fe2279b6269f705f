// The next token behind many prompts: against generating, against the logits of the whole vocabulary.
#include "fixture.h"
#include "harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 3, MAX_LOGITS = 4096 };

static const char *const TEXTS[COUNT] = {
    "Once upon a",
    "The capital of France is",
    "The opposite of hot is the word that everybody knows, namely",
};

typedef struct scores {
    size_t calls, stop_after;
    size_t broken; // out of order, of another size, or with a text that is not UTF-8
    struct {
        int32_t status, token;
        float probability;
        char text[64];
        float logits[MAX_LOGITS];
        size_t logit_count;
        bool has_logits;
    } of[COUNT];
} scores;

static int32_t gather(void *user_data, size_t index, const mlxrt_classification *found) {
    scores *self = user_data;
    if (index != self->calls++ || index >= COUNT || found->struct_size != sizeof *found ||
        found->logit_count > MAX_LOGITS || found->text.len >= sizeof self->of->text ||
        !is_utf8(found->text.data, found->text.len)) {
        self->broken++;
        return 1;
    }
    self->of[index].status = found->status;
    self->of[index].token = found->token;
    self->of[index].probability = found->probability;
    memcpy(self->of[index].text, found->text.data, found->text.len);
    self->of[index].has_logits = found->logits != NULL;
    self->of[index].logit_count = found->logit_count;
    if (found->logits != NULL) {
        memcpy(self->of[index].logits, found->logits, found->logit_count * sizeof(float));
    }
    return self->stop_after != 0 && self->calls >= self->stop_after;
}

static const mlxrt_string *prompts(void) {
    static mlxrt_string all[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        all[i] = string(TEXTS[i]);
    }
    return all;
}

// Scores that the caller frees, and the call's status.
static scores *classify(const mlxrt_classify_options *options, mlxrt_status *status) {
    scores *self = calloc(1, sizeof *self);
    if (self == NULL) {
        abort();
    }
    *status = mlxrt_model_classify(shared_model(), prompts(), COUNT, options, gather, self);
    CHECK_INT(self->broken, 0);
    return self;
}

TEST(it_is_the_token_that_would_be_generated) {
    mlxrt_generate_options one = {.struct_size = sizeof one, .max_tokens = 1, .ignore_end = 1};
    mlxrt_status status;
    scores *self = classify(NULL, &status);
    CHECK_OK(status);
    CHECK_INT(self->calls, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        answer out = {0};
        char text[64] = {0};
        size_t len = 0;
        CHECK_OK(continue_text(shared_model(), TEXTS[i], &one, &out, NULL));
        CHECK_INT(self->of[i].status, MLXRT_STATUS_OK);
        CHECK_INT(self->of[i].token, out.ids[0]);
        CHECK_OK(mlxrt_model_detokenize(shared_model(), &self->of[i].token, 1, 0, text, sizeof text, &len));
        CHECK(strcmp(self->of[i].text, text) == 0);
        CHECK(self->of[i].probability > 0 && self->of[i].probability <= 1);
        CHECK(!self->of[i].has_logits && self->of[i].logit_count == 0);
    }
    free(self);
}

TEST(the_probability_is_that_of_all_logits) {
    mlxrt_classify_options options = {.struct_size = sizeof options, .all_logits = 1};
    mlxrt_model_desc desc = {.struct_size = sizeof desc};
    mlxrt_status status;
    REQUIRE_OK(mlxrt_model_info(shared_model(), &desc));
    scores *self = classify(&options, &status);
    CHECK_OK(status);
    for (size_t i = 0; i < COUNT; i++) {
        const float *logits = self->of[i].logits;
        size_t best = 0;
        double sum = 0;
        CHECK_INT(self->of[i].logit_count, desc.vocab_size);
        for (size_t id = 1; id < self->of[i].logit_count; id++) {
            best = logits[id] > logits[best] ? id : best;
        }
        for (size_t id = 0; id < self->of[i].logit_count; id++) {
            sum += exp((double)logits[id] - (double)logits[best]);
        }
        CHECK_INT(self->of[i].token, best);
        CHECK(fabs(self->of[i].probability - 1 / sum) < 1e-5);
    }
    free(self);
}

TEST(labels_are_picked_in_their_order) {
    int32_t labels[] = {700, 3, 3, 42};
    mlxrt_classify_options all = {.struct_size = sizeof all, .all_logits = 1};
    mlxrt_classify_options some = {.struct_size = sizeof some, .labels = labels, .label_count = 4};
    mlxrt_status status;
    scores *whole = classify(&all, &status);
    CHECK_OK(status);
    scores *picked = classify(&some, &status);
    CHECK_OK(status);
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_INT(picked->of[i].logit_count, 4);
        CHECK_INT(picked->of[i].token, whole->of[i].token);
        for (size_t label = 0; label < 4; label++) {
            CHECK(fabsf(picked->of[i].logits[label] - whole->of[i].logits[labels[label]]) < 1e-4f);
        }
    }
    free(whole);
    free(picked);
}

TEST(special_tokens_as_for_generating) {
    mlxrt_classify_options plain = {.struct_size = sizeof plain, .all_logits = 1, .plain_text = 1};
    mlxrt_classify_options special = {.struct_size = sizeof special, .all_logits = 1};
    mlxrt_string prompt = string("Hello<|im_end|>");
    scores *one = calloc(1, sizeof *one), *two = calloc(1, sizeof *two);
    REQUIRE(one != NULL && two != NULL);
    CHECK_OK(mlxrt_model_classify(shared_model(), &prompt, 1, &plain, gather, one));
    CHECK_OK(mlxrt_model_classify(shared_model(), &prompt, 1, &special, gather, two));
    CHECK(memcmp(one->of[0].logits, two->of[0].logits, sizeof one->of[0].logits) != 0);
    free(one);
    free(two);
}

TEST(a_prompt_that_fails_is_told_of) {
    mlxrt_string list[COUNT];
    scores *self = calloc(1, sizeof *self);
    REQUIRE(self != NULL);
    memcpy(list, prompts(), sizeof list);
    list[1] = string("");
    CHECK_FAILS(mlxrt_model_classify(shared_model(), list, COUNT, NULL, gather, self), BAD_ARGUMENT,
                "prompts[1]");
    CHECK_INT(self->calls, COUNT);
    CHECK_INT(self->broken, 0);
    CHECK_INT(self->of[1].status, MLXRT_STATUS_BAD_ARGUMENT);
    CHECK_INT(self->of[1].token, -1);
    CHECK(self->of[1].text[0] == '\0' && !self->of[1].has_logits && self->of[1].probability == 0);
    CHECK_INT(self->of[0].status, MLXRT_STATUS_OK);
    CHECK_INT(self->of[2].status, MLXRT_STATUS_OK);
    free(self);
}

TEST(the_callback_may_have_enough) {
    scores *self = calloc(1, sizeof *self);
    REQUIRE(self != NULL);
    self->stop_after = 1;
    CHECK_OK(mlxrt_model_classify(shared_model(), prompts(), COUNT, NULL, gather, self));
    CHECK_INT(self->calls, 1);
    free(self);
}

TEST(cancelled) {
    mlxrt_cancel *cancel = NULL;
    mlxrt_status status;
    REQUIRE_OK(mlxrt_cancel_new(&cancel));
    CHECK_OK(mlxrt_cancel_trigger(cancel));
    mlxrt_classify_options options = {.struct_size = sizeof options, .cancel = cancel};
    scores *self = classify(&options, &status);
    CHECK_INT(status, MLXRT_STATUS_CANCELLED);
    CHECK_CONTAINS(mlxrt_error_message(), "prompts[0]");
    CHECK_INT(self->calls, COUNT);
    CHECK_INT(self->of[COUNT - 1].status, MLXRT_STATUS_CANCELLED);
    mlxrt_cancel_free(cancel);
    options.cancel = cancel;
    CHECK_FAILS(mlxrt_model_classify(shared_model(), prompts(), COUNT, &options, gather, self), BAD_ARGUMENT,
                "freed");
    free(self);
}

TEST(null_and_bad_arguments) {
    int32_t label = 1 << 20;
    mlxrt_classify_options far = {.struct_size = sizeof far, .labels = &label, .label_count = 1};
    mlxrt_classify_options both = {
        .struct_size = sizeof both, .labels = &label, .label_count = 1, .all_logits = 1};
    mlxrt_classify_options no_labels = {.struct_size = sizeof no_labels, .label_count = 1};
    mlxrt_classify_options reserved = {.struct_size = sizeof reserved, .reserved = 1};
    mlxrt_classify_options no_size = {0}, defaults, zeros = {.struct_size = sizeof zeros};
    mlxrt_string bad = string("\xff");
    mlxrt_model *model = shared_model(), *gone = NULL;
    scores *self = calloc(1, sizeof *self);
    REQUIRE(self != NULL);
    CHECK_FAILS(mlxrt_model_classify(NULL, prompts(), COUNT, NULL, gather, self), BAD_ARGUMENT, "model");
    CHECK_FAILS(mlxrt_model_classify(model, prompts(), COUNT, NULL, NULL, NULL), BAD_ARGUMENT, "callback");
    CHECK_FAILS(mlxrt_model_classify(model, NULL, 2, NULL, gather, self), BAD_ARGUMENT, "prompts is NULL");
    CHECK_FAILS(mlxrt_model_classify(model, &bad, 1, NULL, gather, self), BAD_ARGUMENT, "prompts[0]");
    CHECK_FAILS(mlxrt_model_classify(model, prompts(), COUNT, &far, gather, self), BAD_ARGUMENT, "labels");
    CHECK_FAILS(mlxrt_model_classify(model, prompts(), COUNT, &both, gather, self), BAD_ARGUMENT, "both");
    CHECK_FAILS(mlxrt_model_classify(model, prompts(), COUNT, &no_labels, gather, self), BAD_ARGUMENT,
                "labels is NULL");
    CHECK_FAILS(mlxrt_model_classify(model, prompts(), COUNT, &reserved, gather, self), BAD_ARGUMENT,
                "reserved");
    CHECK_FAILS(mlxrt_model_classify(model, prompts(), COUNT, &no_size, gather, self), BAD_ARGUMENT,
                "mlxrt_classify_options: struct_size");
    CHECK_OK(mlxrt_model_classify(model, NULL, 0, NULL, gather, self));
    CHECK_INT(self->calls, 0);
    memset(&defaults, 0xff, sizeof defaults);
    CHECK_OK(mlxrt_classify_options_default(&defaults, sizeof defaults));
    CHECK(memcmp(&defaults, &zeros, sizeof zeros) == 0);
    CHECK_STATUS(mlxrt_classify_options_default(NULL, sizeof defaults), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_classify_options_default(&defaults, sizeof defaults - 1), BAD_ARGUMENT);
    REQUIRE_OK(load(model_folder(), &gone));
    mlxrt_model_free(gone);
    CHECK_FAILS(mlxrt_model_classify(gone, prompts(), COUNT, NULL, gather, self), BAD_ARGUMENT, "freed");
    free(self);
}

int main(void) {
    RUN(it_is_the_token_that_would_be_generated);
    RUN(the_probability_is_that_of_all_logits);
    RUN(labels_are_picked_in_their_order);
    RUN(special_tokens_as_for_generating);
    RUN(a_prompt_that_fails_is_told_of);
    RUN(the_callback_may_have_enough);
    RUN(cancelled);
    RUN(null_and_bad_arguments);
    return end_of_tests();
}
