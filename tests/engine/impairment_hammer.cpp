// Drives impairment.hpp and courier.hpp without pjproject; exits with 1 and a line on stderr at the first thing that is
// wrong.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "courier.hpp"

using namespace std::chrono_literals;
using sip_agent::Courier;
using sip_agent::Impairment;
using sip_agent::Impairments;
using sip_agent::Packet;
using sip_agent::PacketClock;
using sip_agent::PacketPath;

namespace {

void expect(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "wrong: %s\n", what);
    std::exit(1);
}

constexpr unsigned kCount = 20000;
constexpr auto kInterval = 20ms;

struct Arrival {
    unsigned number;
    PacketClock::duration late;
};

unsigned number_of(const Packet& packet) {
    unsigned number = 0;
    expect(packet.size() >= sizeof(number), "a packet comes out whole");
    std::memcpy(&number, packet.data(), sizeof(number));
    expect(packet.size() == sizeof(number) + number % 7, "with its own length");
    return number;
}

Packet packet_of(unsigned number) {
    Packet packet(sizeof(number) + number % 7);
    std::memcpy(packet.data(), &number, sizeof(number));
    return packet;
}

// What comes out, each packet taken exactly when it is due.
std::vector<Arrival> run(const Impairments& impairments, std::uint64_t seed = 1) {
    Impairment impairment(impairments, seed);
    std::vector<Arrival> arrivals;
    const PacketClock::time_point start{1h};
    const auto take_until = [&](PacketClock::time_point now) {
        Packet packet;
        while (const auto due = impairment.next_due()) {
            if (*due > now) break;
            expect(impairment.pop(packet, *due), "what is due can be taken");
            const unsigned number = number_of(packet);
            arrivals.push_back({number, *due - (start + number * kInterval)});
        }
    };
    for (unsigned number = 0; number < kCount; ++number) {
        const auto now = start + number * kInterval;
        take_until(now);
        const Packet packet = packet_of(number);
        impairment.push(packet.data(), packet.size(), now);
    }
    take_until(PacketClock::time_point::max());
    return arrivals;
}

void expect_share(unsigned hits, double share, const char* what) {
    const double deviation = std::sqrt(kCount * share * (1 - share));
    expect(std::abs(hits - kCount * share) <= 5 * deviation + 1, what);
}

void nothing_is_wrong() {
    const auto arrivals = run({});
    expect(arrivals.size() == kCount, "a good line loses and doubles nothing");
    for (unsigned i = 0; i < kCount; ++i) {
        expect(arrivals[i].number == i && arrivals[i].late == 0ns, "and delays and reorders nothing");
    }
}

void loss() {
    const auto arrivals = run({0.1, 0, 0, 0us});
    expect_share(kCount - static_cast<unsigned>(arrivals.size()), 0.1, "a tenth is lost");
    expect(run({1, 0, 0, 0us}).empty(), "all is lost");
}

void duplicates() {
    const auto arrivals = run({0, 0.2, 0, 0us});
    expect_share(static_cast<unsigned>(arrivals.size()) - kCount, 0.2, "a fifth comes twice");
    unsigned last = 0, times = 0;
    for (const Arrival& arrival : arrivals) {
        times = arrival.number == last ? times + 1 : 1;
        expect(arrival.number == last || arrival.number == last + 1, "in order, none missing");
        expect(times <= 2, "none comes three times");
        last = arrival.number;
    }
}

void reordering() {
    for (const double share : {0.05, 0.3, 0.5}) {
        const auto arrivals = run({0, 0, share, 0us});
        unsigned overtaken = 0;
        for (std::size_t i = 1; i < arrivals.size(); ++i) {
            if (arrivals[i].number > arrivals[i - 1].number) continue;
            ++overtaken;
            expect(arrivals[i].number + 1 == arrivals[i - 1].number, "a packet is overtaken by the next one only");
        }
        expect_share(overtaken, share, "as many are overtaken as asked for");
        expect(arrivals.size() + 1 >= kCount, "and none is lost, but for the last one");
    }
}

void jitter() {
    const auto arrivals = run({0, 0, 0, 50ms});
    expect(arrivals.size() == kCount, "jitter loses nothing");
    auto sum = 0ns;
    for (unsigned i = 0; i < kCount; ++i) {
        expect(arrivals[i].number == i, "and reorders nothing");
        expect(arrivals[i].late >= 0ns && arrivals[i].late <= 50ms, "each is late by 0 to 50 ms");
        sum += arrivals[i].late;
    }
    // Evenly 25 ms, and more because none may overtake.
    expect(sum / kCount > 24ms && sum / kCount < 33ms, "by about half of it on average");
}

void same_seed() {
    const auto lost = run({0.1, 0, 0, 0us}, 7);
    const auto lost_and_more = run({0.1, 0.3, 0, 80ms}, 7);
    const auto others = run({0.1, 0, 0, 0us}, 8);
    std::vector<unsigned> one, other;
    for (const Arrival& arrival : lost) one.push_back(arrival.number);
    for (const Arrival& arrival : lost_and_more) {
        if (other.empty() || other.back() != arrival.number) other.push_back(arrival.number);
    }
    expect(one == other, "the same seed loses the same packets, whatever else is switched on");
    expect(others.size() != lost.size() || others[5].number != lost[5].number || others.back().number != one.back() ||
               !std::equal(one.begin(), one.end(), others.begin(),
                           [](unsigned number, const Arrival& arrival) { return number == arrival.number; }),
           "another seed loses others");
}

void a_queue_is_bounded() {
    Impairment impairment({0, 0, 0, 1000ms}, 1);
    const PacketClock::time_point now{1h};
    const Packet packet = packet_of(1);
    for (unsigned i = 0; i < 10000; ++i) impairment.push(packet.data(), packet.size(), now);
    Packet out;
    unsigned taken = 0;
    while (impairment.pop(out, now + 1h)) ++taken;
    expect(taken == 256, "a queue that nobody empties does not grow for ever");
}

// One thread pushes, the courier delivers, a third opens and closes the path again and again.
void path() {
    for (const auto delay : {0us, 2000us}) {
        auto courier = std::make_shared<Courier>();
        std::atomic<bool> inside{false}, closed{false};
        std::atomic<unsigned> delivered{0};
        auto line = std::make_shared<PacketPath>(
            Impairments{0.05, 0.1, 0.1, delay}, 3, courier, [&](Packet& packet) {
                expect(!inside.exchange(true), "never by two threads at once");
                if (delay.count()) expect(!closed, "nothing is delivered once close() has returned");
                number_of(packet);
                ++delivered;
                inside = false;
            });
        line->open();
        std::atomic<bool> over{false};
        std::thread pusher([&] {
            for (unsigned i = 0; !over; ++i) {
                const Packet packet = packet_of(i);
                line->push(packet.data(), packet.size());
                std::this_thread::sleep_for(20us);
            }
        });
        for (int round = 0; round < 50; ++round) {
            const unsigned before = delivered;
            while (delivered < before + 20) std::this_thread::yield();
            line->close();
            closed = true;
            std::this_thread::sleep_for(100us);
            closed = false;
            line->open();
        }
        over = true;
        pusher.join();
        courier->close();
        line->close();
        courier->close();
    }
}

}  // namespace

int main() {
    nothing_is_wrong();
    loss();
    duplicates();
    reordering();
    jitter();
    same_seed();
    a_queue_is_bounded();
    path();
    std::puts("ok");
}
