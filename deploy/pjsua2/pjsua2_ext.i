/* The engine's Python module: pjproject's own pjsua2 interface, and the native classes of this folder.
 * SPDX-License-Identifier: GPL-2.0-or-later */
%module(directors="1") pjsua2_native

// Called by the bridge on the clock thread for every port added, connected or removed. As a director method it would
// make the clock wait for the interpreter lock each time, even when Python does not override it.
%feature("nodirector") pj::Endpoint::onAudioMediaOpCompleted;
%feature("nodirector") pj::Endpoint::onVideoMediaOpCompleted;

%include "pjsua2.i"

%{
#include <malloc.h>

#include "bridge_clock.hpp"
#include "frame_port.hpp"
#include "invite_gate.hpp"
#include "message_tap.hpp"
#include "waker.hpp"

namespace {

PyObject* bytes_of(const std::string& text) {
    return PyBytes_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size()));
}

/* Everything in the ring as one bytes object: no intermediate buffer, no object per frame. */
PyObject* drain(sip_agent::FrameRing& ring, std::size_t waiting) {
    PyObject* bytes = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(waiting * ring.frame_bytes()));
    if (bytes && waiting) ring.read(PyBytes_AS_STRING(bytes), waiting);
    return bytes;
}

/* The captured pairs, with silence in the place of the ticks that never came. */
PyObject* drain_capture(sip_agent::FrameExchange& exchange) {
    const std::uint64_t begin = exchange.capture.claimed();
    PyObject* captured = drain(exchange.capture, exchange.capture.size());
    if (!captured || exchange.skips.size() == 0) return captured;
    const std::size_t frame_bytes = exchange.capture.frame_bytes();
    const std::size_t captured_bytes = static_cast<std::size_t>(PyBytes_GET_SIZE(captured));
    std::string whole;
    std::size_t copied = 0;
    sip_agent::FrameExchange::Skip skip;
    try {
        while (exchange.skips.read(&skip, 1)) {  // one that belongs behind these frames ends them
            const std::size_t position = std::min(static_cast<std::size_t>(skip.before - begin) * frame_bytes, captured_bytes);
            whole.append(PyBytes_AS_STRING(captured) + copied, position - copied);
            whole.append(static_cast<std::size_t>(skip.ticks) * frame_bytes, '\0');
            copied = position;
        }
        whole.append(PyBytes_AS_STRING(captured) + copied, captured_bytes - copied);
    } catch (const std::bad_alloc&) {
        Py_DECREF(captured);
        return PyErr_NoMemory();
    }
    Py_DECREF(captured);
    return PyBytes_FromStringAndSize(whole.data(), static_cast<Py_ssize_t>(whole.size()));
}

/* FramePort.read, write and sent are called for every frame of every call. They are functions of the interpreter's own
 * kind, each with a share of the rings: the way through SWIG's proxy objects costs several times what they do. */
using ExchangeShare = std::shared_ptr<sip_agent::FrameExchange>;

sip_agent::FrameExchange& exchange_of(PyObject* capsule) {
    return *static_cast<sip_agent::FrameExchange*>(PyCapsule_GetPointer(capsule, nullptr));
}

PyObject* read_frames(PyObject* capsule, PyObject*) {
    sip_agent::FrameExchange& exchange = exchange_of(capsule);
    const std::size_t waiting = exchange.received.size();
    exchange.note_late(waiting);
    return drain(exchange.received, waiting);
}

PyObject* write_frames(PyObject* capsule, PyObject* frames) {
    Py_buffer view;
    if (PyObject_GetBuffer(frames, &view, PyBUF_SIMPLE) != 0) return nullptr;
    sip_agent::Playout& playout = exchange_of(capsule).playout;
    const Py_ssize_t frame_bytes = static_cast<Py_ssize_t>(playout.frame_bytes());
    PyObject* accepted = nullptr;
    if (view.len % frame_bytes == 0) {
        accepted = PyLong_FromSize_t(playout.write(view.buf, static_cast<std::size_t>(view.len / frame_bytes)));
    } else {
        PyErr_Format(PyExc_ValueError, "%zd bytes are not a whole number of frames of %zd bytes", view.len, frame_bytes);
    }
    PyBuffer_Release(&view);
    return accepted;
}

PyObject* sent_frames(PyObject* capsule, PyObject*) {
    return PyLong_FromUnsignedLongLong(exchange_of(capsule).playout.sent());
}

PyMethodDef read_method = {"read", read_frames, METH_NOARGS, nullptr};
PyMethodDef write_method = {"write", write_frames, METH_O, nullptr};
PyMethodDef sent_method = {"sent", sent_frames, METH_NOARGS, nullptr};

PyObject* bind(PyMethodDef* method, const ExchangeShare& exchange) {
    PyObject* capsule = PyCapsule_New(exchange.get(), nullptr, [](PyObject* self) {
        delete static_cast<ExchangeShare*>(PyCapsule_GetContext(self));
    });
    if (capsule) PyCapsule_SetContext(capsule, new ExchangeShare(exchange));
    PyObject* function = capsule ? PyCFunction_New(method, capsule) : nullptr;
    Py_XDECREF(capsule);
    return function;
}

/* A str or bytes of a header; sets a Python exception and returns false for anything else, and for line breaks, which
 * would let a value add header fields of its own. */
bool header_text(PyObject* object, std::string& text) {
    char* data = nullptr;
    Py_ssize_t length = 0;
    if (PyBytes_Check(object)) {
        PyBytes_AsStringAndSize(object, &data, &length);
    } else if (PyUnicode_Check(object)) {
        data = const_cast<char*>(PyUnicode_AsUTF8AndSize(object, &length));
        if (!data) return false;
    } else {
        PyErr_SetString(PyExc_TypeError, "a header is a pair of str (or bytes): (name, value)");
        return false;
    }
    text.assign(data, static_cast<std::size_t>(length));
    if (text.find_first_of(std::string("\r\n\0", 3)) == std::string::npos) return true;
    PyErr_SetString(PyExc_ValueError, "a header must not contain a line break or NUL");
    return false;
}

bool header_list(PyObject* headers, sip_agent::HeaderList& list) {
    if (!headers || headers == Py_None) return true;
    PyObject* pairs = PySequence_Fast(headers, "headers is a list of (name, value) pairs");
    if (!pairs) return false;
    bool good = true;
    for (Py_ssize_t i = 0; good && i < PySequence_Fast_GET_SIZE(pairs); ++i) {
        PyObject* pair = PySequence_Fast(PySequence_Fast_GET_ITEM(pairs, i), "a header is a (name, value) pair");
        std::string name, value;
        good = pair != nullptr;
        if (good && PySequence_Fast_GET_SIZE(pair) != 2) {
            PyErr_SetString(PyExc_ValueError, "a header is a (name, value) pair");
            good = false;
        }
        good = good && header_text(PySequence_Fast_GET_ITEM(pair, 0), name) &&
               header_text(PySequence_Fast_GET_ITEM(pair, 1), value);
        if (good) list.emplace_back(std::move(name), std::move(value));
        Py_XDECREF(pair);
    }
    Py_DECREF(pairs);
    return good;
}

}  // namespace

namespace sip_agent {

/* Gives memory that ended calls have freed back to the operating system. */
bool trim_memory() { return malloc_trim(0) != 0; }

}  // namespace sip_agent
%}

%include <attribute.i>

// The short calls keep the interpreter lock: giving it up and fighting for it again costs far more than they do. All
// others let go of it, for they take locks of pjsip's, wait for a thread or call back into Python.
%define %keeps_interpreter_lock(method)
%nothread sip_agent::method;
%enddef
%keeps_interpreter_lock(FramePort::_bind_read)
%keeps_interpreter_lock(FramePort::_bind_write)
%keeps_interpreter_lock(FramePort::_bind_sent)
%keeps_interpreter_lock(FramePort::read_capture)
%keeps_interpreter_lock(FramePort::flush)
%keeps_interpreter_lock(FramePort::queued)
%keeps_interpreter_lock(FramePort::finish)
%keeps_interpreter_lock(FramePort::pause)
%keeps_interpreter_lock(FramePort::stats)
%keeps_interpreter_lock(FramePort::frame_bytes)
%keeps_interpreter_lock(FramePort::written)
%keeps_interpreter_lock(FramePort::flushed)
%keeps_interpreter_lock(BridgeClock::fileno)
%keeps_interpreter_lock(BridgeClock::ticks)
%keeps_interpreter_lock(BridgeClock::late_ticks)
%keeps_interpreter_lock(BridgeClock::max_lag_us)
%keeps_interpreter_lock(BridgeClock::skipped_ticks)
%keeps_interpreter_lock(Waker::wake)
%keeps_interpreter_lock(MessageTap::take)
%keeps_interpreter_lock(InviteGate::stats)
%keeps_interpreter_lock(InviteGate::block)
%keeps_interpreter_lock(InviteGate::unblock)
%keeps_interpreter_lock(HeldInvite::_message)
%keeps_interpreter_lock(HeldInvite::reject)  // itself lets go of it, after reading its arguments
%keeps_interpreter_lock(HeldInvite::source_host)
%keeps_interpreter_lock(HeldInvite::source_port)
%keeps_interpreter_lock(HeldInvite::local_host)
%keeps_interpreter_lock(HeldInvite::local_port)
%keeps_interpreter_lock(HeldInvite::transport)
%keeps_interpreter_lock(HeldInvite::call_id)
%keeps_interpreter_lock(HeldInvite::cancelled)
%keeps_interpreter_lock(HeldInvite::decided)

%feature("kwargs") sip_agent::FramePort::FramePort;
%feature("kwargs") sip_agent::HeldInvite::reject;
%feature("kwargs") sip_agent::InviteGate::InviteGate;
%feature("compactdefaultargs") sip_agent::FramePort::FramePort;
%feature("compactdefaultargs") sip_agent::HeldInvite::reject;
%feature("compactdefaultargs") sip_agent::InviteGate::InviteGate;
%catches(pj::Error) sip_agent::FramePort::FramePort;
%catches(pj::Error) sip_agent::FramePort::connect;
%catches(pj::Error) sip_agent::BridgeClock::BridgeClock;
%catches(pj::Error) sip_agent::BridgeClock::start;
%catches(pj::Error) sip_agent::Waker::Waker;
%catches(pj::Error) sip_agent::MessageTap::MessageTap;
%catches(pj::Error) sip_agent::InviteGate::InviteGate;
%catches(pj::Error) sip_agent::HeldInvite::reject;
%catches(pj::Error) sip_agent::HeldInvite::pass_on;
%catches(pj::Error) sip_agent::HeldInvite::drop;
%pythonappend sip_agent::FramePort::FramePort %{
    self.read, self.write, self.sent = self._bind_read(), self._bind_write(), self._bind_sent()
%}
%newobject sip_agent::InviteGate::take;

%define %may_set_python_error(method)
%exception method {
    $action
    if (PyErr_Occurred()) SWIG_fail;
}
%enddef
%may_set_python_error(sip_agent::FramePort::_bind_read)
%may_set_python_error(sip_agent::FramePort::_bind_write)
%may_set_python_error(sip_agent::FramePort::_bind_sent)
%may_set_python_error(sip_agent::FramePort::read_capture)
%may_set_python_error(sip_agent::FramePort::stats)
%may_set_python_error(sip_agent::MessageTap::take)
%may_set_python_error(sip_agent::InviteGate::stats)
%may_set_python_error(sip_agent::HeldInvite::_message)
%exception sip_agent::HeldInvite::reject {
    try {
        $action
    } catch (pj::Error& error) {
        SWIG_Python_Raise(SWIG_NewPointerObj(new pj::Error(error), SWIGTYPE_p_pj__Error, SWIG_POINTER_OWN), "Error",
                          SWIGTYPE_p_pj__Error);
        SWIG_fail;
    }
    if (PyErr_Occurred()) SWIG_fail;
}

// Read-only attributes.
%attribute(sip_agent::FramePort, int, frame_bytes, frame_bytes);
%attribute(sip_agent::FramePort, unsigned long long, written, written);
%attribute(sip_agent::FramePort, unsigned long long, flushed, flushed);
%attribute(sip_agent::BridgeClock, unsigned long long, ticks, ticks);
%attribute(sip_agent::BridgeClock, unsigned long long, late_ticks, late_ticks);
%attribute(sip_agent::BridgeClock, unsigned long long, max_lag_us, max_lag_us);
%attribute(sip_agent::BridgeClock, unsigned long long, skipped_ticks, skipped_ticks);
%attributestring(sip_agent::HeldInvite, std::string, source_host, source_host);
%attribute(sip_agent::HeldInvite, int, source_port, source_port);
%attributestring(sip_agent::HeldInvite, std::string, local_host, local_host);
%attribute(sip_agent::HeldInvite, int, local_port, local_port);
%attributestring(sip_agent::HeldInvite, std::string, transport, transport);
%attributestring(sip_agent::HeldInvite, std::string, call_id, call_id);
%attribute(sip_agent::HeldInvite, bool, cancelled, cancelled);
%attribute(sip_agent::HeldInvite, bool, decided, decided);

namespace sip_agent {

class FramePort : public pj::AudioMedia {
public:
    ~FramePort();
    void connect(const pj::Call& call, unsigned media_index, bool through_bridge);
    void close();
};

%extend FramePort {
    FramePort(const std::string& name, unsigned sample_rate_hz, unsigned ptime_ms = 20, unsigned received_frames = 50,
              unsigned send_frames = 100, unsigned capture_frames = 50, unsigned gap_limit_ticks = 10,
              unsigned cushion_frames = 1) {
        return new sip_agent::FramePort(name, sample_rate_hz, ptime_ms,
                                        {received_frames, send_frames, capture_frames, gap_limit_ticks, cushion_frames});
    }

    PyObject* _bind_read() { return bind(&read_method, $self->exchange()); }
    PyObject* _bind_write() { return bind(&write_method, $self->exchange()); }
    PyObject* _bind_sent() { return bind(&sent_method, $self->exchange()); }

    PyObject* read_capture() {
        return drain_capture(*$self->exchange());
    }

    int flush() { return static_cast<int>($self->exchange()->playout.flush()); }
    int queued() { return static_cast<int>($self->exchange()->playout.queued()); }
    void finish() { $self->exchange()->playout.finish(); }
    void pause(bool on) { $self->exchange()->playout.pause(on); }

    PyObject* stats() {
        const sip_agent::FrameExchange& exchange = *$self->exchange();
        const sip_agent::Playout& playout = exchange.playout;
        using Number = unsigned long long;
        return Py_BuildValue(
            "{s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K}", "ticks", Number{exchange.ticks.get()}, "written",
            Number{playout.written()}, "sent", Number{playout.sent()}, "flushed", Number{playout.flushed()}, "queued",
            Number{playout.queued()}, "underruns", Number{playout.underruns()}, "pauses", Number{playout.pauses()},
            "pause_ticks", Number{playout.pause_ticks()}, "late", Number{exchange.late.get()}, "overruns", Number{exchange.overruns.get()}, "capture_overruns",
            Number{exchange.capture_overruns.get()});
    }
}

class BridgeClock {
public:
    BridgeClock();
    ~BridgeClock();
    void start();
    void stop();
    int fileno() const;
};

class Waker {
public:
    Waker();
    ~Waker();
    void wake();
    void close();
};

%nodefaultctor HeldInvite;
class HeldInvite {
public:
    ~HeldInvite();
    int pass_on();
    void drop();
};

%extend HeldInvite {
    PyObject* _message() { return bytes_of($self->message()); }

    %pythoncode %{
    message = property(lambda self: self._message())
    %}

    bool reject(int code, const std::string& reason = "", PyObject* headers = nullptr, bool stateful = true) {
        sip_agent::HeaderList list;
        if (code < 300 || code > 699) {
            PyErr_Format(PyExc_ValueError, "%d is not a status that rejects", code);
            return false;
        }
        if (reason.find_first_of("\r\n") != std::string::npos) {
            PyErr_SetString(PyExc_ValueError, "a reason phrase must not contain a line break");
            return false;
        }
        if (!header_list(headers, list)) return false;
        SWIG_PYTHON_THREAD_BEGIN_ALLOW;
        const bool sent = $self->reject(code, reason, list, stateful);
        SWIG_PYTHON_THREAD_END_ALLOW;
        return sent;
    }
}

class InviteGate {
public:
    InviteGate(unsigned long max_held = 1024, bool rewrite_contact = false);
    ~InviteGate();
    void close();
    sip_agent::HeldInvite* take();
    void block(const std::string& host);
    void unblock(const std::string& host);
};

%extend InviteGate {
    PyObject* stats() {
        sip_agent::GateCore& core = $self->core();
        const sip_agent::GateCounters& count = core.counters;
        using Number = unsigned long long;
        return Py_BuildValue(
            "{s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K}", "held", Number{count.held.get()}, "currently_held",
            Number{core.currently_held()}, "retransmissions_dropped", Number{count.retransmissions_dropped.get()},
            "rejected", Number{count.rejected.get()}, "passed", Number{count.passed.get()}, "overflow",
            Number{count.overflow.get()}, "other_methods", Number{count.other_methods.get()}, "oversized",
            Number{count.oversized.get()}, "blocked_dropped", Number{count.blocked_dropped.get()});
    }
}

class MessageTap {
public:
    MessageTap();
    ~MessageTap();
    void close();
};

%extend MessageTap {
    /* A list of (seconds since the epoch, sent, text, cseq). */
    PyObject* take(const std::string& call_id) {
        const sip_agent::MessageTap::Messages messages = $self->take(call_id);
        PyObject* list = PyList_New(static_cast<Py_ssize_t>(messages.size()));
        for (std::size_t i = 0; list && i < messages.size(); ++i) {
            const sip_agent::TappedMessage& message = messages[i];
            PyObject* text = PyUnicode_DecodeUTF8(message.text.data(), static_cast<Py_ssize_t>(message.text.size()), "replace");
            PyObject* item = text ? Py_BuildValue("dONi", message.at_s, message.sent ? Py_True : Py_False, text, message.cseq)
                                  : nullptr;
            if (item) {
                PyList_SET_ITEM(list, static_cast<Py_ssize_t>(i), item);
            } else {
                Py_CLEAR(list);
            }
        }
        return list;
    }
}

bool trim_memory();

}

%include "faults.i"
