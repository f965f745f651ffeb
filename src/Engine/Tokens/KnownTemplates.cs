namespace Tiller.Tokens;

/// <summary>The chat templates that are understood, as canonical programs (<see cref="ChatProgram"/>).</summary>
internal static class KnownTemplates
{
    private const string SystemMark = "«system»";
    private const string DateMark = "«date»";

    private const string FirstSystem = "messages[0].role == \"system\"";
    private const string Alternate = "if((m.role == \"user\") != (loop.index0 % 2 == 0)){raise}";

    private const string Header = "\"<|start_header_id|>\"{m.role}\"<|end_header_id|>\\n\\n\"{m.content|trim}\"<|eot_id|>\"";
    private const string HeaderInner = "\"<|start_header_id|>\"+m.role+\"<|end_header_id|>\\n\\n\"+m.content|trim+\"<|eot_id|>\"";
    private const string HeaderPrompt = "\"<|start_header_id|>assistant<|end_header_id|>\\n\\n\"";
    private const string HeaderLoop = "set(loop_messages=messages)for(m in loop_messages){set(content=" + HeaderInner
        + ")if(loop.index0 == 0){set(content=bos_token+content)}{content}}";

    private const string HeaderDated = "\"<|start_header_id|>system<|end_header_id|>\\n\\nCutting Knowledge Date: December 2023\\nToday Date: \"{date_string}\"\\n\\n\""
        + "{system_message}\"<|eot_id|>\"for(m in messages){" + Header + "}if(add_generation_prompt){" + HeaderPrompt + "}";

    private const string HeaderSystem = "if(" + FirstSystem + "){set(system_message=messages[0].content|trim)set(messages=messages[1:])}else{set(system_message=\"\")}";
    private const string HeaderSystemRaw = "if(" + FirstSystem + "){set(system_message=messages[0].content)set(messages=messages[1:])}else{set(system_message=\"\")}";

    private const string MlMessage = "\"<|im_start|>\"{m.role}\"\\n\"{m.content}\"<|im_end|>\\n\"";
    private const string MlLoop = "for(m in messages){" + MlMessage + "}" + MlPrompt;
    private const string MlPrompt = "if(add_generation_prompt){\"<|im_start|>assistant\\n\"}";
    private const string MlDefault = "\"<|im_start|>system\\n" + SystemMark + "<|im_end|>\\n\"";
    private const string MlRoles = "for(m in messages){if((m.role == \"user\") or ((m.role == \"system\") and (not loop.first)) or (m.role == \"assistant\")){"
        + MlMessage + "}";

    private const string Turn = "\"<start_of_turn>\"{role}\"\\n\"{m.content|trim}\"<end_of_turn>\\n\"";
    private const string TurnPrompt = "if(add_generation_prompt){\"<start_of_turn>model\\n\"}";

    private const string SysOpen = "\"<<SYS>>\\n\"+";
    private const string SysClose = "+\"\\n<</SYS>>\\n\\n\"";
    private const string Llama2Head = "if(" + FirstSystem + "){set(loop_messages=messages[1:])set(system_message=messages[0].content)}"
        + "else{set(loop_messages=messages)set(system_message=false)}for(m in loop_messages){" + Alternate
        + "if((loop.index0 == 0) and (system_message != false)){set(content=" + SysOpen + "system_message" + SysClose + "+m.content)}else{set(content=m.content)}";

    private const string MistralHead = "if(" + FirstSystem + "){set(system_message=messages[0].content)set(loop_messages=messages[1:])}else{set(loop_messages=messages)}";
    private const string MistralCount = "set(ns=namespace())set(ns.index=0)for(m in loop_messages){if((m.role == \"user\") != (ns.index % 2 == 0)){raise}set(ns.index=ns.index+1)}";

    private static readonly InstStyle Llama2 = new(true, "[INST] ", " [/INST]", true, " ", true, " ", "", SystemPlace.Brackets);
    private static readonly InstStyle Mistral = new(false, "[INST] ", " [/INST]", false, "", false, "", "", SystemPlace.None);

    /// <summary>The style of a template, or null if it is none of the known ones.</summary>
    public static ChatStyle? Find(string program, TimeProvider clock)
    {
        foreach ((string known, Func<string, ChatStyle> make) in Rows(clock))
        {
            if (Match(known, program) is { } captured)
            {
                return make(captured);
            }
        }

        return null;
    }

    private static IEnumerable<(string Program, Func<string, ChatStyle> Make)> Rows(TimeProvider clock)
    {
        string prompt = "if(add_generation_prompt){" + HeaderPrompt + "}";
        string today = clock.GetLocalNow().ToString("dd MMM yyyy", System.Globalization.CultureInfo.InvariantCulture);
        yield return ("{bos_token}for(m in messages){" + Header + "}" + prompt, static _ => new HeaderStyle(null, true, false));
        yield return (HeaderLoop + prompt, static _ => new HeaderStyle(null, true, false));
        yield return (HeaderLoop + HeaderPrompt, static _ => new HeaderStyle(null, true, true));
        foreach ((string system, bool trimmed) in ((string, bool)[])[(HeaderSystem, true), (HeaderSystemRaw, false)])
        {
            yield return ("{bos_token}set(date_string=\"" + DateMark + "\")" + system + HeaderDated, date => new HeaderStyle(() => date, trimmed, false));
            yield return ("{bos_token}set(date_string=strftime_now(\"%d %b %Y\"))" + system + HeaderDated, _ => new HeaderStyle(() => today, trimmed, false));
        }

        yield return (MlLoop, static _ => new ChatMlStyle(null));
        yield return ("if(messages[0].role != \"system\"){" + MlDefault + "}" + MlLoop, static system => new ChatMlStyle(system));
        yield return ("for(m in messages){if(loop.first and (messages[0].role != \"system\")){" + MlDefault + "}" + MlMessage + "}" + MlPrompt,
            static system => new ChatMlStyle(system));
        yield return ("if(" + FirstSystem + "){\"<|im_start|>system\\n\"{messages[0].content}\"<|im_end|>\\n\"}else{" + MlDefault + "}" + MlRoles + "}" + MlPrompt,
            static system => new ChatMlStyle(system));

        yield return ("{bos_token}for(m in messages){set(role=\"model\" if m.role == \"assistant\" else m.role)" + Turn + "}" + TurnPrompt, static _ => new TurnStyle(Alternates: false));
        yield return ("{bos_token}if(" + FirstSystem + "){raise}for(m in messages){" + Alternate
            + "if(m.role == \"assistant\"){set(role=\"model\")}else{set(role=m.role)}" + Turn + "}" + TurnPrompt, static _ => new TurnStyle(Alternates: true));

        yield return ("set(ns=namespace(system=\"\"))for(m in messages){if(m.role == \"system\"){set(ns.system=" + SysOpen + "m.content" + SysClose
            + ")}elif(m.role == \"user\"){{bos_token}\"[INST] \"{(ns.system+m.content)|trim}\" [/INST]\"set(ns.system=\"\")}else{\" \"{m.content|trim}\" \"{eos_token}}}",
            static _ => Llama2 with { Alternates = false });
        yield return (Llama2Head + "if(m.role == \"user\"){{bos_token}\"[INST] \"{content|trim}\" [/INST]\"}elif(m.role == \"assistant\"){\" \"{content|trim}\" \"{eos_token}}}",
            static _ => Llama2);

        string refuse = "else{raise}}";
        string user = Alternate + "if(m.role == \"user\"){\"[INST] \"{m.content}\" [/INST]\"}";
        yield return ("{bos_token}for(m in messages){" + user + "elif(m.role == \"assistant\"){{m.content}{eos_token}\" \"}" + refuse, static _ => Mistral with { AfterEos = " " });
        yield return ("{bos_token}for(m in messages){" + user + "elif(m.role == \"assistant\"){{m.content}{eos_token}}" + refuse, static _ => Mistral);
        yield return (MistralHead + "{bos_token}for(m in loop_messages){" + Alternate
            + "if(m.role == \"user\"){if(loop.first and (system_message is defined)){\" [INST] \"{system_message}\"\\n\\n\"{m.content}\" [/INST]\"}"
            + "else{\" [INST] \"{m.content}\" [/INST]\"}}elif(m.role == \"assistant\"){\" \"{m.content}{eos_token}}" + refuse,
            static _ => Mistral with { Open = " [INST] ", AnswerOpen = " ", Place = SystemPlace.FirstUser });
        foreach (bool trim in (bool[])[false, true])
        {
            foreach (string head in (string[])[MistralHead + MistralCount + "{bos_token}", MistralHead + "{bos_token}" + MistralCount])
            {
                yield return (head + "for(m in loop_messages){if(m.role == \"user\"){if(loop.last and (system_message is defined)){\"[INST] \"{system_message}\"\\n\\n\"{m.content}\"[/INST]\"}"
                    + "else{\"[INST] \"{m.content}\"[/INST]\"}}elif(m.role == \"assistant\"){\" \"{m.content" + (trim ? "|trim" : "") + "}{eos_token}}" + refuse,
                    _ => Mistral with { Close = "[/INST]", AnswerOpen = " ", TrimAnswer = trim, Place = SystemPlace.LastUser });
            }
        }
    }

    // Null, or what stands at the mark; empty for a template without one.
    private static string? Match(string known, string program)
    {
        int mark = known.IndexOf('«');
        if (mark < 0)
        {
            return known == program ? "" : null;
        }

        string tail = known[(known.IndexOf('»') + 1)..];
        if (program.Length < mark + tail.Length || !program.StartsWith(known[..mark], StringComparison.Ordinal) || !program.EndsWith(tail, StringComparison.Ordinal))
        {
            return null;
        }

        string captured = program[mark..(program.Length - tail.Length)];
        return IsInsideString(captured) ? ChatProgram.Unquote(captured) : null;
    }

    // No quote that would end the string, and no special token's bracket.
    private static bool IsInsideString(string text)
    {
        for (int i = 0; i < text.Length; i++)
        {
            if (text[i] == '\\')
            {
                i++;
            }
            else if (text[i] == '"' || (text[i] == '<' && i + 1 < text.Length && text[i + 1] == '|'))
            {
                return false;
            }
        }

        return true;
    }
}
