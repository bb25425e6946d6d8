/* The line between a call and its peer, spoilt on purpose: faults on real packets.
 * SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SIP_AGENT_LINE_HPP
#define SIP_AGENT_LINE_HPP

#include <cstring>

#include <pjsua2.hpp>

#include "courier.hpp"
#include "pj_calls.hpp"

namespace sip_agent {

struct LineFaults {
    Impairments to_peer;
    Impairments from_peer;
    std::uint64_t seed;
    bool mute;          // nothing gets through to the peer
    bool deaf;          // nothing gets through from the peer
    int payload_type;   // of the sound that is sent; -1: the negotiated one
};

/* Puts functions of its own in the place of some of a transport's operations; the others stay what they were. A
 * transport finds its Interposed through the table that its `op` points to, and takes it along when it goes. */
class Interposed {
public:
    virtual ~Interposed() = default;
    Interposed(const Interposed&) = delete;
    Interposed& operator=(const Interposed&) = delete;

protected:
    explicit Interposed(pjmedia_transport* transport)
        : transport_(transport), original_(transport->op), table_{*transport->op, this} {
        if (!transport->grp_lock) raise(PJ_EINVALIDOP, "Line.attach", "the transport has no group lock");
    }

    pjmedia_transport_op& operations() { return table_.operations; }

    /* From now on the transport owns this object. */
    void take_over() {
        pj_grp_lock_add_handler(transport_->grp_lock, nullptr, this,
                                [](void* self) { delete static_cast<Interposed*>(self); });
        transport_->op = &table_.operations;
    }

    template <typename Kind>
    static Kind& of(pjmedia_transport* transport) {
        return static_cast<Kind&>(*reinterpret_cast<Table*>(transport->op)->self);
    }

    pjmedia_transport* const transport_;
    const pjmedia_transport_op* const original_;

private:
    struct Table {
        pjmedia_transport_op operations;  // first: its address is that of the table
        Interposed* self;
    };

    Table table_;
};

/* On the socket, below SRTP: RTP packets go through a PacketPath each way; a blocked way lets no RTCP through either. */
class Wire : public Interposed {
public:
    static void interpose(pjmedia_transport* transport, const LineFaults& faults, std::shared_ptr<Courier> courier,
                          std::shared_ptr<std::atomic<bool>> cut) {
        (new Wire(transport, faults, std::move(courier), std::move(cut)))->take_over();
    }

private:
    Wire(pjmedia_transport* transport, const LineFaults& faults, std::shared_ptr<Courier> courier,
         std::shared_ptr<std::atomic<bool>> cut)
        : Interposed(transport),
          mute_(faults.mute),
          deaf_(faults.deaf),
          cut_(std::move(cut)),
          to_peer_(std::make_shared<PacketPath>(faults.to_peer, faults.seed, courier,
                                                [this](Packet& packet) { send(packet); })),
          from_peer_(std::make_shared<PacketPath>(faults.from_peer, ~faults.seed, courier,
                                                  [this](Packet& packet) { receive(packet); })) {
        operations().send_rtp = &Wire::on_send_rtp;
        operations().send_rtcp = &Wire::on_send_rtcp;
        operations().send_rtcp2 = &Wire::on_send_rtcp2;
        operations().attach2 = &Wire::on_attach;
        operations().detach = &Wire::on_detach;
        operations().destroy = &Wire::on_destroy;
    }

    bool is_mute() const { return mute_ || cut_->load(std::memory_order_relaxed); }
    bool is_deaf() const { return deaf_ || cut_->load(std::memory_order_relaxed); }

    static pj_status_t on_send_rtp(pjmedia_transport* transport, const void* packet, pj_size_t size) {
        Wire& self = of<Wire>(transport);
        if (!self.is_mute()) self.to_peer_->push(packet, size);
        return PJ_SUCCESS;
    }

    static pj_status_t on_send_rtcp(pjmedia_transport* transport, const void* packet, pj_size_t size) {
        Wire& self = of<Wire>(transport);
        return self.is_mute() ? PJ_SUCCESS : self.original_->send_rtcp(transport, packet, size);
    }

    static pj_status_t on_send_rtcp2(pjmedia_transport* transport, const pj_sockaddr_t* address, unsigned address_size,
                                     const void* packet, pj_size_t size) {
        Wire& self = of<Wire>(transport);
        if (self.is_mute()) return PJ_SUCCESS;
        return self.original_->send_rtcp2(transport, address, address_size, packet, size);
    }

    static pj_status_t on_attach(pjmedia_transport* transport, pjmedia_transport_attach_param* param) {
        Wire& self = of<Wire>(transport);
        self.close();
        self.listener_ = *param;
        param->user_data = &self;
        param->rtp_cb = nullptr;
        param->rtp_cb2 = &Wire::on_rtp;
        param->rtcp_cb = &Wire::on_rtcp;
        const pj_status_t status = self.original_->attach2(transport, param);
        if (status != PJ_SUCCESS) return status;
        self.to_peer_->open();
        self.from_peer_->open();
        return PJ_SUCCESS;
    }

    static void on_detach(pjmedia_transport* transport, void*) {
        Wire& self = of<Wire>(transport);
        self.close();
        self.original_->detach(transport, &self);
    }

    static pj_status_t on_destroy(pjmedia_transport* transport) {
        Wire& self = of<Wire>(transport);
        self.close();
        return self.original_->destroy(transport);
    }

    static void on_rtp(pjmedia_tp_cb_param* param) {
        Wire& self = *static_cast<Wire*>(param->user_data);
        if (param->size < 0) {  // an error of the socket
            self.hand_on(*param);
            return;
        }
        if (self.is_deaf()) return;
        {
            const std::lock_guard<std::mutex> lock(self.source_mutex_);
            pj_sockaddr_cp(&self.source_, param->src_addr);
        }
        self.from_peer_->push(param->pkt, static_cast<std::size_t>(param->size));
        param->rem_switch = self.source_changed_.exchange(false) ? PJ_TRUE : PJ_FALSE;
    }

    static void on_rtcp(void* user_data, void* packet, pj_ssize_t size) {
        Wire& self = *static_cast<Wire*>(user_data);
        if (!self.is_deaf() && self.listener_.rtcp_cb) self.listener_.rtcp_cb(self.listener_.user_data, packet, size);
    }

    void send(const Packet& packet) { original_->send_rtp(transport_, packet.data(), packet.size()); }

    void receive(Packet& packet) {
        pj_sockaddr source;
        {
            const std::lock_guard<std::mutex> lock(source_mutex_);
            source = source_;
        }
        pjmedia_tp_cb_param param{};
        param.size = static_cast<pj_ssize_t>(packet.size());
        packet.resize(packet.size() + kSlack);
        param.pkt = packet.data();
        param.src_addr = &source;
        hand_on(param);
        // The stream asks to send to another address from now on; the socket is told with the next packet.
        if (param.rem_switch) source_changed_ = true;
    }

    void hand_on(pjmedia_tp_cb_param& param) const {
        param.user_data = listener_.user_data;
        if (listener_.rtp_cb2) listener_.rtp_cb2(&param);
        else if (listener_.rtp_cb) listener_.rtp_cb(param.user_data, param.pkt, param.size);
    }

    void close() {
        to_peer_->close();
        from_peer_->close();
    }

    // Unpacking an Opus packet may write past its end: see the receive buffer that build.sh makes longer.
    static constexpr std::size_t kSlack = 64;

    const bool mute_;
    const bool deaf_;
    const std::shared_ptr<std::atomic<bool>> cut_;
    const std::shared_ptr<PacketPath> to_peer_;
    const std::shared_ptr<PacketPath> from_peer_;
    pjmedia_transport_attach_param listener_{};
    std::mutex source_mutex_;
    pj_sockaddr source_{};
    std::atomic<bool> source_changed_{false};
};

/* On the stream's side, above SRTP, which signs the header: the sound goes out under another payload type. Telephone
 * events keep theirs. */
class Mislabel : public Interposed {
public:
    static void interpose(pjmedia_transport* transport, int payload_type) {
        (new Mislabel(transport, payload_type))->take_over();
    }

private:
    Mislabel(pjmedia_transport* transport, int payload_type)
        : Interposed(transport), payload_type_(static_cast<std::uint8_t>(payload_type)) {
        operations().send_rtp = &Mislabel::on_send_rtp;
        operations().attach2 = &Mislabel::on_attach;
    }

    static pj_status_t on_attach(pjmedia_transport* transport, pjmedia_transport_attach_param* param) {
        Mislabel& self = of<Mislabel>(transport);
        pjmedia_stream_info info;
        const auto* stream = static_cast<const pjmedia_stream*>(param->stream);
        if (stream && pjmedia_stream_get_info(stream, &info) == PJ_SUCCESS) self.negotiated_ = info.tx_pt;
        return self.original_->attach2(transport, param);
    }

    static pj_status_t on_send_rtp(pjmedia_transport* transport, const void* packet, pj_size_t size) {
        const Mislabel& self = of<Mislabel>(transport);
        const auto* bytes = static_cast<const std::uint8_t*>(packet);
        if (size < sizeof(pjmedia_rtp_hdr) || size > PJMEDIA_MAX_MTU || (bytes[1] & kPayloadType) != self.negotiated_) {
            return self.original_->send_rtp(transport, packet, size);
        }
        std::uint8_t copy[PJMEDIA_MAX_MTU];
        std::memcpy(copy, packet, size);
        copy[1] = static_cast<std::uint8_t>((bytes[1] & ~kPayloadType) | self.payload_type_);
        return self.original_->send_rtp(transport, copy, size);
    }

    static constexpr unsigned kPayloadType = 0x7f;  // beside the marker bit (RFC 3550 section 5.1)

    const std::uint8_t payload_type_;
    unsigned negotiated_ = ~0U;
};

/* The thread that delays packets. Create it on the SIP thread after libInit(); close() it when no call is left, before
 * libDestroy(). */
class LineCourier {
public:
    LineCourier() : courier_(std::make_shared<Courier>(&register_pj_thread)) {}
    ~LineCourier() { close(); }
    void close() { courier_->close(); }
    const std::shared_ptr<Courier>& share() const { return courier_; }

private:
    const std::shared_ptr<Courier> courier_;
};

/* The faults of one call. */
class Line {
public:
    Line(LineCourier& courier, const LineFaults& faults) : faults_(faults), courier_(courier.share()) {}

    /* To be called from Call::onCreateMediaTransport(), which comes with each transport of the call. */
    void attach(const pj::OnCreateMediaTransportParam& created) {
        auto* outer = static_cast<pjmedia_transport*>(created.mediaTp);
        if (!outer || !is_srtp(outer)) {
            raise(PJ_EINVALIDOP, "Line.attach", "pjsua puts SRTP over every socket, if only to bypass it; not here");
        }
        Wire::interpose(pjmedia_transport_srtp_get_member(outer), faults_, courier_, cut_);
        if (faults_.payload_type >= 0) Mislabel::interpose(outer, faults_.payload_type);
    }

    /* Any thread: no packet gets through any more, either way. */
    void cut() { cut_->store(true, std::memory_order_relaxed); }

private:
    /* Its `type` does not tell: that is the type of what is below it. */
    static bool is_srtp(pjmedia_transport* transport) {
        pjmedia_transport_info info;
        pjmedia_transport_info_init(&info);
        return pjmedia_transport_get_info(transport, &info) == PJ_SUCCESS &&
               pjmedia_transport_info_get_transport(&info, PJMEDIA_TRANSPORT_TYPE_SRTP) == transport;
    }

    const LineFaults faults_;
    const std::shared_ptr<Courier> courier_;
    const std::shared_ptr<std::atomic<bool>> cut_ = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace sip_agent
#endif
