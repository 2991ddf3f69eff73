/* What aclnn calls take, and what becomes of them: our own words for published facts, for compiling where CANN is not
 * installed. A machine with CANN has its own `aclnn/acl_meta.h`. */
#ifndef BLOOMERY_ACL_META_H
#define BLOOMERY_ACL_META_H

#include "acl/acl.h"
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef int32_t aclnnStatus; /* 0 is success */

typedef struct aclOpExecutor aclOpExecutor;
typedef struct aclTensor aclTensor;
typedef struct aclScalar aclScalar;
typedef struct aclIntArray aclIntArray;
typedef struct aclFloatArray aclFloatArray;
typedef struct aclBoolArray aclBoolArray;
typedef struct aclTensorList aclTensorList;

/* Strides and the offset count elements; `memory` is where the storage begins. */
aclTensor *aclCreateTensor(const int64_t *dims, uint64_t dimsCount, aclDataType type, const int64_t *strides, int64_t offset,
                           aclFormat format, const int64_t *storageDims, uint64_t storageDimsCount, void *memory);
aclScalar *aclCreateScalar(void *value, aclDataType type);
aclIntArray *aclCreateIntArray(const int64_t *values, uint64_t count);
aclFloatArray *aclCreateFloatArray(const float *values, uint64_t count);
aclBoolArray *aclCreateBoolArray(const bool *values, uint64_t count);
aclTensorList *aclCreateTensorList(const aclTensor *const *tensors, uint64_t count); /* owns them from then on */

aclnnStatus aclDestroyTensor(const aclTensor *tensor);
aclnnStatus aclDestroyScalar(const aclScalar *scalar);
aclnnStatus aclDestroyIntArray(const aclIntArray *array);
aclnnStatus aclDestroyFloatArray(const aclFloatArray *array);
aclnnStatus aclDestroyBoolArray(const aclBoolArray *array);
aclnnStatus aclDestroyTensorList(const aclTensorList *list);

/* An executor that may be used again, until it is destroyed. */
aclnnStatus aclSetAclOpExecutorRepeatable(aclOpExecutor *executor);
aclnnStatus aclDestroyAclOpExecutor(aclOpExecutor *executor);
aclnnStatus aclSetInputTensorAddr(aclOpExecutor *executor, size_t index, aclTensor *tensor, void *memory);
aclnnStatus aclSetOutputTensorAddr(aclOpExecutor *executor, size_t index, aclTensor *tensor, void *memory);
aclnnStatus aclSetTensorAddr(aclOpExecutor *executor, size_t index, aclTensor *tensor, void *memory);

#ifdef __cplusplus
}
#endif
#endif
