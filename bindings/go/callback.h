// The Go functions that C calls back.
#ifndef MLXRT_GO_CALLBACK_H
#define MLXRT_GO_CALLBACK_H

#include <mlxrt.h>

// cgo forgets the const of a pointer but keeps that of a type name.
typedef const mlxrt_token mlxrt_go_token;
typedef const mlxrt_classification mlxrt_go_classification;
typedef const mlxrt_model_entry mlxrt_go_model_entry;

int32_t mlxrtGoBatchToken(void *user_data, size_t index, mlxrt_go_token *token);
int32_t mlxrtGoClassification(void *user_data, size_t index, mlxrt_go_classification *found);
int32_t mlxrtGoModelEntry(void *user_data, mlxrt_go_model_entry *entry);
int32_t mlxrtGoProgress(void *user_data, uint64_t done, uint64_t total);

#endif
