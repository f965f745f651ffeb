using Tiller.Checkpoint;
using Tiller.Ops;

namespace Tiller.Cpu;

/// <summary>The stepper of the CPU: a step runs when it is called, and the host draws.</summary>
internal sealed class CpuStepper(CpuOps ops, ModelConfig c, StepStages stages) : Stepper(ops, c, stages);
