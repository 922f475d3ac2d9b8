// The Vercel AI SDK: generateText, streamText, tools and generateObject over three kinds of model.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { aborted, run } from "./told.mjs";

const openai = ({ url, key }) => createOpenAI({ baseURL: url, apiKey: key });
const options = { name: "redraft", includeUsage: true, supportsStructuredOutputs: true };
const compatible = ({ url, key }) => createOpenAICompatible({ ...options, baseURL: url, apiKey: key });
const models = {
  chat: (asked) => openai(asked).chat(asked.model),
  responses: (asked) => openai(asked).responses(asked.model),
  compatible: (asked) => compatible(asked)(asked.model),
};
const schema = z.object({ subject: z.string(), words: z.number() });
const inputSchema = z.object({ to: z.string(), urgent: z.boolean() });
const send = tool({ description: "Send it.", inputSchema, execute: async () => "sent" });

const ask = (asked) => ({ model: models[asked.ask.split("/")[0]](asked), prompt: asked.prompt });
const called = ({ toolName, input }) => [toolName, JSON.stringify(input)];

async function chat(asked) {
  const { response, text, usage } = await generateText(ask(asked));
  return { id: response.id, text, usage: usage.outputTokens > 0 };
}

async function stream(asked) {
  const answer = streamText(ask(asked));
  const texts = [];
  for await (const text of answer.textStream) texts.push(text);
  const { outputTokens } = await answer.usage;
  return { id: (await answer.response).id, text: texts.join(""), pieces: texts.length, usage: outputTokens > 0 };
}

async function tools(asked) {
  const { steps, text } = await generateText({ ...ask(asked), tools: { send_email: send }, stopWhen: stepCountIs(2) });
  return { id: steps[0].response.id, call: called(steps[0].toolCalls[0]), after: text };
}

async function toolsStream(asked) {
  const answer = streamText({ ...ask(asked), tools: { send_email: send } });
  await answer.consumeStream();
  return { id: (await answer.response).id, call: called((await answer.toolCalls)[0]) };
}

async function json(asked) {
  const { object, response } = await generateObject({ ...ask(asked), schema });
  return { id: response.id, parsed: object };
}

async function slow(asked) {
  const leaving = new AbortController();
  const answer = streamText({ ...ask(asked), abortSignal: leaving.signal });
  for await (const text of answer.textStream) {
    leaving.abort();
    return { text };
  }
}

async function wait(asked) {
  try {
    await generateText({ ...ask(asked), abortSignal: aborted(asked) });
  } catch (error) {
    return { gone: error.name === "AbortError" };
  }
}

function failure(error) {
  const last = error.lastError ?? error; // it asked again, and says so
  const said = last.data?.error ?? {};
  return {
    error: [last.name],
    message: last.message,
    status_code: last.statusCode,
    code: said.code ?? null,
    param: said.param ?? null,
    type: said.type,
    retry_after: last.responseHeaders?.["retry-after"] ?? null,
  };
}

const kinds = { chat, stream, tools, "tools stream": toolsStream, json, slow, wait };
const named = (api) => Object.entries(kinds).map(([kind, call]) => [`${api}/${kind}`, call]);
await run(Object.fromEntries(Object.keys(models).flatMap(named)), failure);
