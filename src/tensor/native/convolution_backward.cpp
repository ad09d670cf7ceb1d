// Second derivatives of convolutions by convolutions of the same size.
//
// R1 and path length differentiate `aten::convolution_backward`. libtorch does that with convolutions whose kernels are
// as large as images, one by one for every channel of a filter with groups, and it computes the kernel's part where
// nobody asks for it. A convolution is linear in its input x and in its kernel w, and so is its backward pass in each
// of its arguments: with g the gradient of the output, g_x(g, w) and g_w(g, x) the results, and u, v, b the directions
// in which g_x, g_w and the bias's gradient are differentiated,
//
//     d/dg = convolution(u, w) + convolution(x, v) + b        d/dx = g_x(g, v)        d/dw = g_w(g, u)
//
// But for b, which is only broadcast, these are convolutions and their backward passes again, of the same size as the
// one that is differentiated. They are differentiated in the same way, so derivatives of every order exist.

#include <ATen/ATen.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <array>
#include <memory>
#include <optional>
#include <tuple>
#include <vector>

namespace {

using at::IntArrayRef;
using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

using Gradients = std::tuple<Tensor, Tensor, Tensor>;

// The parameters of a convolution besides its tensors, kept from the forward to the backward pass.
struct Geometry {
    std::vector<int64_t> stride, padding, dilation, output_padding;
    bool transposed;
    int64_t groups;

    void save(AutogradContext* context) const {
        context->saved_data["stride"] = stride;
        context->saved_data["padding"] = padding;
        context->saved_data["dilation"] = dilation;
        context->saved_data["output_padding"] = output_padding;
        context->saved_data["transposed"] = transposed;
        context->saved_data["groups"] = groups;
    }

    static Geometry saved(AutogradContext* context) {
        auto list = [&](const char* name) { return context->saved_data[name].toIntVector(); };
        return {list("stride"), list("padding"), list("dilation"), list("output_padding"),
                context->saved_data["transposed"].toBool(), context->saved_data["groups"].toInt()};
    }

    Tensor convolve(const Tensor& x, const Tensor& w) const {
        return at::convolution(x, w, {}, stride, padding, dilation, transposed, output_padding, groups);
    }

    Gradients backward(const Tensor& g, const Tensor& x, const Tensor& w, at::OptionalIntArrayRef bias,
                       std::array<bool, 3> wanted) const {
        return at::convolution_backward(g, x, w, bias, stride, padding, dilation, transposed, output_padding, groups,
                                        wanted);
    }
};

struct ConvolutionBackward : torch::autograd::Function<ConvolutionBackward> {
    // Returns the wanted ones of the three gradients.
    static variable_list forward(AutogradContext* context, const Tensor& g, const Tensor& x, const Tensor& w,
                                 at::OptionalIntArrayRef bias, const Geometry& geometry, std::array<bool, 3> wanted) {
        at::AutoDispatchBelowADInplaceOrView below_autograd;
        context->save_for_backward({g, x, w});
        geometry.save(context);
        auto [g_x, g_w, g_b] = geometry.backward(g, x, w, bias, wanted);
        variable_list results;
        int64_t made = 0;
        for (const auto& [bit, result] : {std::pair<int, Tensor&>{1, g_x}, {2, g_w}, {4, g_b}}) {
            if (result.defined()) {
                made |= bit;
                results.push_back(result);
            }
        }
        context->saved_data["made"] = made;
        return results;
    }

    static variable_list backward(AutogradContext* context, const variable_list& directions) {
        const auto saved = context->get_saved_variables();
        const Tensor &g = saved[0], &x = saved[1], &w = saved[2];
        const auto geometry = Geometry::saved(context);
        const int64_t made = context->saved_data["made"].toInt();
        size_t next = 0;
        auto direction = [&](int64_t bit) { return made & bit ? directions[next++] : Tensor(); };
        const Tensor u = direction(1), v = direction(2), b = direction(4);

        Tensor d_g, d_x, d_w;
        auto add = [](Tensor& sum, const Tensor& term) { sum = sum.defined() ? sum + term : term; };
        if (context->needs_input_grad(0)) {
            if (u.defined()) add(d_g, geometry.convolve(u, w));
            if (v.defined()) add(d_g, geometry.convolve(x, v));
            if (b.defined()) {
                std::vector<int64_t> shape(g.dim(), 1);
                shape[1] = -1;
                add(d_g, b.view(shape).expand_as(g));
            }
        }
        if (context->needs_input_grad(1) && v.defined()) {
            d_x = std::get<0>(geometry.backward(g, x, v, {}, {true, false, false}));
        }
        if (context->needs_input_grad(2) && u.defined()) {
            d_w = std::get<1>(geometry.backward(g, u, w, {}, {false, true, false}));
        }
        return {d_g, d_x, d_w, {}, {}, {}};
    }
};

Gradients convolution_backward(const Tensor& g, const Tensor& x, const Tensor& w, at::OptionalIntArrayRef bias,
                               IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation, bool transposed,
                               IntArrayRef output_padding, int64_t groups, std::array<bool, 3> wanted) {
    if (!at::GradMode::is_enabled()) {
        at::AutoDispatchBelowADInplaceOrView below_autograd;
        return at::convolution_backward(g, x, w, bias, stride, padding, dilation, transposed, output_padding, groups,
                                        wanted);
    }
    const Geometry geometry{stride.vec(), padding.vec(), dilation.vec(), output_padding.vec(), transposed, groups};
    const auto made = ConvolutionBackward::apply(g, x, w, bias, geometry, wanted);
    std::array<Tensor, 3> gradients;
    size_t next = 0;
    for (size_t i = 0; i < 3; i++) {
        if (wanted[i] && next < made.size()) gradients[i] = made[next++];
    }
    return {gradients[0], gradients[1], gradients[2]};
}

// Silences libtorch's warning about every operator that is replaced: this one is meant to be.
struct Silent : c10::WarningHandler {
    void process(const c10::Warning&) override {}
};

std::vector<std::unique_ptr<torch::Library>> registered;

}  // namespace

// Replaces libtorch's derivative in this process if `own`, or gives it back. Returns false where libtorch refuses. It
// must not be called while tensors are being computed.
extern "C" bool rootgan_set_convolution_backward(bool own) noexcept {
    try {
        registered.clear();
        if (!own) return true;
        Silent silent;
        c10::WarningUtils::WarningHandlerGuard guard(&silent);
        for (const auto key : {c10::DispatchKey::AutogradCPU, c10::DispatchKey::AutogradCUDA}) {
            auto library = std::make_unique<torch::Library>(torch::Library::IMPL, "aten", key, __FILE__, __LINE__);
            library->impl("convolution_backward", convolution_backward);
            registered.push_back(std::move(library));
        }
        return true;
    } catch (...) {
        registered.clear();
        return false;
    }
}
