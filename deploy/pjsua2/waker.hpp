/* Ending the SIP thread's wait from another thread. SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SIP_AGENT_WAKER_HPP
#define SIP_AGENT_WAKER_HPP

#include <atomic>
#include <cerrno>

#include <sys/socket.h>
#include <unistd.h>

#include <pjsua2.hpp>

#include "pj_calls.hpp"

/* pjsua2 calls it when another thread has left it a job; missing where build.sh could not put it in. */
extern "C" __attribute__((weak)) void (*sip_agent_on_pending_job)(void);

namespace sip_agent {

/* One end of a socket pair sits in the SIP endpoint's I/O queue, so that a byte on the other end makes a waiting
 * libHandleEvents() return. (An eventfd would not do: the I/O queue reads with recv().)
 *
 * Put the work where the SIP thread finds it, then wake(); the SIP thread looks for work after every
 * libHandleEvents(). A burst of wake() costs one system call. There is one Waker; it must outlive the threads of pjsua,
 * which wake the SIP thread for the callbacks that belong on it. */
class Waker {
public:
    Waker() {
        int ends[2];
        if (::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) {
            raise(PJ_STATUS_FROM_OS(errno), "Waker()");
        }
        wake_end_ = ends[1];
        pool_ = pjsua_pool_create("waker", 512, 512);
        pj_ioqueue_callback callback{};
        callback.on_read_complete = &Waker::on_read_complete;
        const pj_status_t status =
            pool_ ? pj_ioqueue_register_sock(pool_, pjsip_endpt_get_ioqueue(pjsua_get_pjsip_endpt()), ends[0], this,
                                             &callback, &key_)
                  : PJ_ENOMEM;
        if (status != PJ_SUCCESS) {
            ::close(ends[0]);
            ::close(wake_end_);
            raise(status, "Waker()");
        }
        pj_ioqueue_op_key_init(&read_op_, sizeof(read_op_));
        listen();
        pjsua_wakes_.store(this, std::memory_order_release);
        if (&sip_agent_on_pending_job) sip_agent_on_pending_job = &Waker::on_pending_job;
    }

    ~Waker() {
        close();
        ::close(wake_end_);  // not earlier: another thread may be in wake()
    }

    Waker(const Waker&) = delete;
    Waker& operator=(const Waker&) = delete;

    /* Any thread. After close() it does nothing. */
    void wake() {
        if (signalled_.exchange(true, std::memory_order_acq_rel)) return;
        const char byte = 1;
        [[maybe_unused]] const ssize_t sent = ::send(wake_end_, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    }

    /* SIP thread, before libDestroy(). */
    void close() {
        if (!key_) return;
        pjsua_wakes_.store(nullptr, std::memory_order_release);
        pj_ioqueue_key_t* key = key_;
        key_ = nullptr;
        if (!pjsua_is_alive()) return;
        register_pj_thread();
        pj_ioqueue_unregister(key);
        pj_pool_release(pool_);
    }

private:
    static void on_pending_job() {
        if (Waker* waker = pjsua_wakes_.load(std::memory_order_acquire)) waker->wake();
    }

    static void on_read_complete(pj_ioqueue_key_t* key, pj_ioqueue_op_key_t*, pj_ssize_t) {
        static_cast<Waker*>(pj_ioqueue_get_user_data(key))->listen();
    }

    void listen() {
        pj_status_t status;
        do {
            // Cleared before the socket is emptied: a wake() from here on sends a byte of its own.
            signalled_.store(false, std::memory_order_release);
            pj_ssize_t length = sizeof(buffer_);
            status = pj_ioqueue_recv(key_, &read_op_, buffer_, &length, 0);
        } while (status == PJ_SUCCESS);
    }

    static inline std::atomic<Waker*> pjsua_wakes_{nullptr};

    pj_ioqueue_key_t* key_ = nullptr;
    pj_ioqueue_op_key_t read_op_{};
    pj_pool_t* pool_ = nullptr;
    int wake_end_ = -1;
    std::atomic<bool> signalled_{false};
    char buffer_[16];
};

}  // namespace sip_agent
#endif
