// Classifies token ids from C++: cpp_user FOLDER ID...
//
// gatetable.h is a C header that C++ may include; gatetable.c is compiled as C beside it.
#include "gatetable.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

using Model = std::unique_ptr<gt_model, decltype(&gt_close)>;

static Model open_model(const char *folder) {
    char message[GT_MESSAGE_BYTES];
    gt_model *model;
    if (gt_open(folder, &model, message) != GT_OK) throw std::runtime_error(message);
    return Model(model, gt_close);
}

int main(int argc, char **argv) try {
    if (argc < 2) throw std::runtime_error("usage: cpp_user FOLDER ID...");
    const Model model = open_model(argv[1]);
    std::vector<std::int32_t> ids;
    for (int i = 2; i < argc; ++i) {
        char *end;
        const long id = std::strtol(argv[i], &end, 10);
        if (end == argv[i] || *end != '\0' || id < 0 || id > INT32_MAX)
            throw std::runtime_error(std::string("ID: expected a token id, found ") + argv[i]);
        ids.push_back(static_cast<std::int32_t>(id));
    }
    std::int32_t best;
    float probability;
    const gt_status status = gt_predict(model.get(), ids.data(),
                                        static_cast<std::int64_t>(ids.size()), 1, &best,
                                        &probability);
    if (status != GT_OK) throw std::runtime_error(gt_status_name(status));
    std::printf("%s\t%.9g\n", gt_label(model.get(), best), static_cast<double>(probability));
    return EXIT_SUCCESS;
} catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
}
