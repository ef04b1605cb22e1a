#pragma once

namespace moerl::testing {

/// Whether a sanitizer is built in: it takes memory of its own, and keeps the compiler from
/// inlining what it inlines otherwise.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kIsSanitized = true;
#else
inline constexpr bool kIsSanitized = false;
#endif

/// Whether vfork shares its memory with the parent, which so learns why a program does not start.
/// The thread sanitizer makes it a fork.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool kVforkSharesMemory = false;
#else
inline constexpr bool kVforkSharesMemory = true;
#endif

}  // namespace moerl::testing
