// Drives ring.hpp and playout.hpp without pjproject; exits with 1 and a line on stderr at the first thing that is wrong.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "playout.hpp"

using sip_agent::FrameRing;
using sip_agent::Playout;

namespace {

constexpr std::size_t kWords = 40;  // 320 bytes, a 20 ms frame at 8 kHz
using Frame = std::vector<std::uint64_t>;

void expect(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "wrong: %s\n", what);
    std::exit(1);
}

Frame frames_from(std::uint64_t first, std::size_t count) {
    Frame frames;
    for (std::size_t i = 0; i < count; ++i) frames.insert(frames.end(), kWords, first + i);
    return frames;
}

bool is_frame(const std::uint64_t* words, std::uint64_t number) {
    for (std::size_t i = 0; i < kWords; ++i) {
        if (words[i] != number) return false;
    }
    return true;
}

// One thread writes numbered frames and now and then flushes, the other reads: every frame comes out whole, in order,
// and is either read or flushed.
void hammer(std::size_t capacity, std::uint64_t total) {
    FrameRing ring(kWords * sizeof(std::uint64_t), capacity);
    std::atomic<bool> done{false};
    std::uint64_t flushed = 0;
    std::uint64_t read = 0;

    std::thread producer([&] {
        std::uint64_t next = 0;
        std::uint64_t random = 12345;
        while (next < total) {
            random = random * 6364136223846793005ULL + 1442695040888963407ULL;
            const std::size_t batch = 1 + (random >> 33) % (capacity + 1);
            const Frame frames = frames_from(next, batch);
            const std::size_t accepted = ring.write(frames.data(), batch);
            next += accepted;
            if (accepted < batch) std::this_thread::yield();
            if ((random >> 40) % 7 == 0) flushed += ring.flush();
        }
        done.store(true, std::memory_order_release);
    });

    Frame out(kWords * capacity);
    std::uint64_t lowest = 0;
    for (bool last_round = false;;) {
        const std::size_t count = ring.read(out.data(), 1 + read % capacity);
        for (std::size_t i = 0; i < count; ++i) {
            const std::uint64_t number = out[i * kWords];
            expect(number >= lowest, "frames come out in order");
            expect(is_frame(&out[i * kWords], number), "a frame comes out whole");
            lowest = number + 1;
        }
        read += count;
        if (count > 0) continue;
        if (last_round) break;
        last_round = done.load(std::memory_order_acquire);
        std::this_thread::yield();
    }
    producer.join();
    expect(ring.written() >= total && read + flushed == ring.written(), "every frame is read or flushed, none twice");
    expect(ring.size() == 0, "nothing is left");
}

void single_thread() {
    FrameRing ring(kWords * sizeof(std::uint64_t), 3);
    const Frame five = frames_from(0, 5);
    Frame out(kWords * 5);
    expect(ring.write(five.data(), 5) == 3, "a ring takes as many frames as it has room for");
    expect(ring.write(five.data(), 1) == 0, "a full ring takes none");
    expect(ring.read(out.data(), 2) == 2 && is_frame(&out[kWords], 1), "the oldest come first");
    expect(ring.write(&five[3 * kWords], 2) == 2, "freed slots are used again");
    expect(ring.read(out.data(), 5) == 3 && is_frame(&out[0], 2) && is_frame(&out[2 * kWords], 4), "across the wrap");
    expect(ring.write(five.data(), 3) == 3 && ring.flush() == 3 && ring.size() == 0, "flush says how many it dropped");
    expect(ring.write(five.data(), 3) == 3, "flushed slots are free at once");
    expect(ring.flush() == 3 && ring.flush() == 0, "a second flush finds nothing");
    expect(ring.read(out.data(), 1) == 0, "a flushed ring is empty");
}

// The ticks of a playout as text: a digit for the frame played, '.' for silence.
std::string ticks(Playout& playout, int count) {
    Frame frame(kWords);
    std::string text;
    for (int i = 0; i < count; ++i) {
        text += playout.next(frame.data()) ? static_cast<char>('0' + frame[0] % 10) : '.';
    }
    return text;
}

void write(Playout& playout, std::uint64_t first, std::size_t count) {
    const Frame frames = frames_from(first, count);
    expect(playout.write(frames.data(), count) == count, "there is room");
}

Playout make(unsigned cushion) { return {kWords * sizeof(std::uint64_t), 10, 3, cushion}; }

void cushion_and_end() {
    Playout playout = make(2);
    expect(ticks(playout, 2) == "..", "silence before anything is written");
    write(playout, 0, 2);
    expect(ticks(playout, 2) == ".." && playout.sent() == 0, "the cushion comes first and is not counted as sent");
    playout.finish();
    expect(ticks(playout, 6) == "01...." && playout.sent() == 2, "then the frames");
    write(playout, 2, 1);
    expect(ticks(playout, 4) == "..2.", "after finish() a new stream has a cushion of its own");
    expect(playout.underruns() == 0 && playout.pauses() == 0, "a finished stream leaves no gap");
}

void gaps() {
    Playout playout = make(1);
    write(playout, 0, 1);
    expect(ticks(playout, 4) == ".0.." && playout.underruns() == 0, "a gap counts only when the stream goes on");
    write(playout, 1, 1);
    expect(ticks(playout, 1) == "1" && playout.underruns() == 2, "then each empty tick was an underrun");
    expect(ticks(playout, 3) == "...", "a gap at the limit");
    write(playout, 2, 1);
    expect(ticks(playout, 1) == "2" && playout.underruns() == 5 && playout.pauses() == 0, "is still an underrun");
    expect(ticks(playout, 4) == "....", "one tick more");
    expect(playout.pauses() == 0, "is no pause either until more audio comes");
    write(playout, 3, 1);
    expect(ticks(playout, 2) == ".3", "which starts a stream, with its cushion");
    expect(playout.underruns() == 5 && playout.pauses() == 1, "and makes the gap a pause");
    expect(playout.pause_ticks() == 5, "of four empty ticks and the cushion");
    ticks(playout, 9);
    playout.finish();
    ticks(playout, 1);
    write(playout, 4, 1);
    expect(ticks(playout, 2) == ".4" && playout.pauses() == 1, "finish() late in a gap still ends the stream");
    expect(playout.pause_ticks() == 5, "and is no part of any pause");
}

void finish_means_after_what_is_queued() {
    Playout playout = make(1);
    write(playout, 0, 2);
    playout.finish();
    write(playout, 2, 1);
    expect(ticks(playout, 6) == ".01.2.", "the stream ends behind the second frame, the next has its own cushion");
    expect(playout.underruns() == 0, "no underrun between them");
    write(playout, 3, 1);
    expect(ticks(playout, 1) == "3" && playout.underruns() == 1, "inside the new stream a gap counts again");
}

void flush_and_pause() {
    Playout playout = make(0);
    write(playout, 0, 5);
    expect(ticks(playout, 2) == "01", "no cushion when none is asked for");
    expect(playout.flush() == 3 && ticks(playout, 2) == "..", "the tick after flush() is silent");
    expect(playout.written() == 5 && playout.sent() == 2 && playout.flushed() == 3, "each frame is accounted for");
    write(playout, 5, 3);
    expect(ticks(playout, 1) == "5" && playout.underruns() == 0, "flush() ends the stream: no underrun");
    playout.pause(true);
    expect(ticks(playout, 20) == std::string(20, '.') && playout.queued() == 2, "paused: silence, the queue is kept");
    playout.pause(false);
    expect(ticks(playout, 3) == "67." && playout.underruns() == 0 && playout.pauses() == 0, "and goes on without a gap");
}

}  // namespace

int main() {
    single_thread();
    cushion_and_end();
    gaps();
    finish_means_after_what_is_queued();
    flush_and_pause();
    hammer(1, 20000);
    hammer(3, 50000);
    hammer(64, 200000);
    std::puts("ok");
}
