/* What every call from Python into pjlib has to mind: the thread, the order of shutdown, errors.
 * SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SIP_AGENT_PJ_CALLS_HPP
#define SIP_AGENT_PJ_CALLS_HPP

#include <string>

#include <pjsua2.hpp>

namespace sip_agent {

/* Python may destroy an object on any thread; pjlib's locks need to know the thread they are taken on. */
inline void register_pj_thread() {
    static thread_local pj_thread_desc description;
    if (pj_thread_is_registered()) return;
    pj_thread_t* thread = nullptr;
    pj_bzero(description, sizeof(description));
    pj_thread_register("python", description, &thread);
}

/* False once libDestroy() has run: everything that pjsua allocated is gone, and must not be touched. */
inline bool pjsua_is_alive() {
    const pjsua_state state = pjsua_get_state();
    return state != PJSUA_STATE_NULL && state != PJSUA_STATE_CLOSING;
}

/* Python sees pjsua2's own Error, as from every other call. */
[[noreturn]] inline void raise(pj_status_t status, const char* where, const char* reason = "") {
    throw pj::Error(status, where, reason, "sip_agent", 0);
}

inline void check(pj_status_t status, const char* where) {
    if (status != PJ_SUCCESS) raise(status, where);
}

}  // namespace sip_agent
#endif
