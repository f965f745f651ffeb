using Tiller.Cuda;
using Tiller.Kernels;
using Tiller.Model;

namespace Tiller.Bench;

/// <summary>Compares a work with unchanged CUDA kernels and with each change of the kernels that can affect it, in one process.</summary>
internal static class Variants
{
    /// <summary>The work with unchanged kernels, and then with each change. All of them run the same step on the same weights.</summary>
    /// <param name="model">The model that the work runs.</param>
    /// <param name="work">The work.</param>
    /// <param name="kind">The kind of the work, which selects the changes.</param>
    /// <exception cref="BenchException">The model is not on a CUDA device.</exception>
    public static Work[] Of(LanguageModel model, Work work, VariantWork kind)
    {
        if (model.Ops is not CudaOps ops)
        {
            throw new BenchException(
                $"--variants changes CUDA kernels, but the device is {model.DeviceDescription}. Use --device cuda, or leave --variants out.");
        }

        return
        [
            work with { Name = $"{work.Name}, as it is", Run = () => Run(KernelVariants.Default) },
            .. KernelVariant.All.Where(v => v.SeenIn.HasFlag(kind)).Select(v => work with
            {
                Name = $"{work.Name}, {v.Name} (predicted {v.Predicted})",
                Comparison = Comparison.Speed,
                Run = () => Run(v.Choice),
            }),
        ];

        void Run(KernelVariants variants)
        {
            ops.Variants = variants;
            work.Run();
        }
    }
}
