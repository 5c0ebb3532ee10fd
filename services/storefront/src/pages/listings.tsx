import { Skeleton } from "../ui/index.tsx";
import { t } from "../lib/texts.ts";

export default function Page(_: { id?: string }) {
  return (
    <>
      <h1>{t("listings.title")}</h1>
      <Skeleton />
    </>
  );
}
