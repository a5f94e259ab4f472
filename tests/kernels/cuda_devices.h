// What of devices plans depend on, from the largest to the smallest that counts.
#pragma once

#include "kernels/cuda/matmul/plan.h"

namespace cga::test {

inline constexpr cuda::DeviceLimits devices[] = {
    {132, 233472, 232448},  // H100
    {108, 167936, 166912},  // A100
    {84, 102400, 101376},   // sm_86
    {28, 102400, 101376},   // the same, small
    {128, 102400, 101376},  // sm_89
    {170, 102400, 101376},  // sm_120
    {1, 102400, 101376},
};

}  // namespace cga::test
