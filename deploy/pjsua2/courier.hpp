/* A thread that does things at their time, and the path of packets that may have to wait for it. Depends on nothing but
 * the standard library. SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SIP_AGENT_COURIER_HPP
#define SIP_AGENT_COURIER_HPP

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "impairment.hpp"

namespace sip_agent {

class Courier {
public:
    /* Work that is due at certain times; says when it is due next, if it is. */
    class Client {
    public:
        virtual ~Client() = default;
        virtual std::optional<PacketClock::time_point> work(PacketClock::time_point now) = 0;
    };

    explicit Courier(std::function<void()> on_start = [] {})
        : thread_([this, on_start] {
              on_start();
              run();
          }) {}

    ~Courier() { close(); }

    Courier(const Courier&) = delete;
    Courier& operator=(const Courier&) = delete;

    /* Any thread: have client->work() called then. */
    void call(std::shared_ptr<Client> client, PacketClock::time_point due) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            if (closing_) return;
            agenda_.emplace(due, std::move(client));
        }
        changed_.notify_all();
    }

    /* Returns when the client is not at work, and will not be; not to be called from its own work(). */
    void forget(const Client* client) {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [this, client] { return at_work_ != client; });
        for (auto entry = agenda_.begin(); entry != agenda_.end();) {
            entry = entry->second.get() == client ? agenda_.erase(entry) : std::next(entry);
        }
    }

    void close() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            closing_ = true;
        }
        changed_.notify_all();
        if (thread_.joinable()) thread_.join();
        agenda_.clear();
    }

private:
    void run() {
        std::unique_lock<std::mutex> lock(mutex_);
        while (!closing_) {
            if (agenda_.empty()) {
                changed_.wait(lock);
                continue;
            }
            const auto first = agenda_.begin();
            const PacketClock::time_point now = PacketClock::now();
            if (first->first > now) {
                const PacketClock::time_point due = first->first;
                changed_.wait_until(lock, due);
                continue;
            }
            const std::shared_ptr<Client> client = std::move(first->second);
            agenda_.erase(first);
            at_work_ = client.get();
            lock.unlock();
            const auto next = client->work(now);
            lock.lock();
            at_work_ = nullptr;
            if (next && !closing_) agenda_.emplace(*next, client);
            changed_.notify_all();
        }
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::multimap<PacketClock::time_point, std::shared_ptr<Client>> agenda_;
    const Client* at_work_ = nullptr;
    bool closing_ = false;
    std::thread thread_;  // last: it uses all of the above
};

/* Packets pushed in at one end leave at the other, impaired: with jitter all of them on the courier's thread, without it
 * all on the thread that pushes. So deliver() is never called by two threads at once. */
class PacketPath : public Courier::Client, public std::enable_shared_from_this<PacketPath> {
public:
    using Deliver = std::function<void(Packet&)>;

    PacketPath(const Impairments& impairments, std::uint64_t seed, std::shared_ptr<Courier> courier, Deliver deliver)
        : delays_(impairments.jitter.count() > 0),
          courier_(std::move(courier)),
          deliver_(std::move(deliver)),
          impairment_(impairments, seed) {}

    void open() {
        const std::lock_guard<std::mutex> lock(mutex_);
        open_ = true;
    }

    /* What is under way is lost. When this returns, deliver() is not running on the courier's thread. */
    void close() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            open_ = awaited_ = false;
            impairment_.clear();
        }
        if (delays_) courier_->forget(this);
    }

    void push(const void* data, std::size_t size) {
        const PacketClock::time_point now = PacketClock::now();
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            if (!open_) return;
            impairment_.push(data, size, now);
        }
        if (delays_) await();
        else drain(now);
    }

    std::optional<PacketClock::time_point> work(PacketClock::time_point now) override {
        drain(now);
        const std::lock_guard<std::mutex> lock(mutex_);
        const auto due = open_ ? impairment_.next_due() : std::nullopt;
        awaited_ = due.has_value();
        return due;
    }

private:
    /* The queue is in the order of its times: one appointment, for its first, is enough. */
    void await() {
        std::optional<PacketClock::time_point> due;
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            if (awaited_) return;
            due = impairment_.next_due();
            awaited_ = due.has_value();
        }
        if (due) courier_->call(shared_from_this(), *due);
    }

    void drain(PacketClock::time_point now) {
        Packet packet;
        for (;;) {
            {
                const std::lock_guard<std::mutex> lock(mutex_);
                if (!open_ || !impairment_.pop(packet, now)) return;
            }
            deliver_(packet);
        }
    }

    const bool delays_;
    const std::shared_ptr<Courier> courier_;  // null where nothing is delayed
    const Deliver deliver_;
    std::mutex mutex_;  // never held while a packet is delivered
    Impairment impairment_;
    bool open_ = false;
    bool awaited_ = false;
};

}  // namespace sip_agent
#endif
